package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// Channels of exec, and what closes one in the fifth version.
const (
	stdin   = 0
	stdout  = 1
	failure = 3
	resize  = 4
	closing = 255
)

// message is the size of the messages on a channel: longer than gorilla's buffer, so that it sends fragments.
const message = 100_000

func send(conn *websocket.Conn, channel byte, data []byte) error {
	writer, err := conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	_, first := writer.Write([]byte{channel})
	_, second := writer.Write(data)
	return errors.Join(first, second, writer.Close())
}

// serveChannels sends back on stdout what comes on stdin; when stdin ends (fifth version) or a terminal size comes (fourth), it says
// how much that was and closes.
func serveChannels(conn *websocket.Conn, version string) error {
	total := 0
	for {
		_, data, err := conn.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case len(data) == 0:
		case data[0] == stdin:
			total += len(data) - 1
			if err := send(conn, stdout, data[1:]); err != nil {
				return err
			}
		case version == "v5" && bytes.Equal(data, []byte{closing, stdin}), version == "v4" && data[0] == resize:
			if err := send(conn, failure, []byte(strconv.Itoa(total))); err != nil {
				return err
			}
			text := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
			_ = conn.WriteControl(websocket.CloseMessage, text, time.Now().Add(time.Second))
		}
	}
}

// dialChannels is the client of the same; it also pings.
func dialChannels(conn *websocket.Conn, version string, size int) error {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	pongs := 0
	conn.SetPongHandler(func(text string) error {
		if text != "are you there" {
			return fmt.Errorf("a pong with %q", text)
		}
		pongs++
		return nil
	})
	written := make(chan error, 1)
	go func() { written <- writeChannels(conn, version, size) }()
	var echoed bytes.Buffer
	answer := ""
	for {
		kind, data, err := conn.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			break
		}
		if err != nil {
			return err
		}
		if kind != websocket.BinaryMessage || len(data) == 0 {
			return fmt.Errorf("a message of kind %d with %d bytes", kind, len(data))
		}
		switch data[0] {
		case stdout:
			echoed.Write(data[1:])
		case failure:
			answer += string(data[1:])
		default:
			return fmt.Errorf("a message on channel %d", data[0])
		}
	}
	if err := <-written; err != nil {
		return err
	}
	if err := readPattern(&echoed, 7, size); err != nil {
		return err
	}
	if answer != strconv.Itoa(size) || pongs != 1 {
		return fmt.Errorf("the answer is %q, with %d pongs", answer, pongs)
	}
	return nil
}

func writeChannels(conn *websocket.Conn, version string, size int) error {
	if err := conn.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(patience)); err != nil {
		return err
	}
	for from := 0; from < size; from += message {
		if err := send(conn, stdin, pattern(7, from, min(message, size-from))); err != nil {
			return err
		}
	}
	if version == "v5" {
		return conn.WriteMessage(websocket.BinaryMessage, []byte{closing, stdin})
	}
	return send(conn, resize, []byte(`{"Width":80,"Height":24}`))
}
