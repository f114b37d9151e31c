package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// tunnel is bytes in binary messages as a net.Conn: what client-go's portforward package puts under spdystream.
type tunnel struct {
	conn    *websocket.Conn
	message io.Reader
	once    sync.Once
}

func (t *tunnel) Read(p []byte) (int, error) {
	for {
		if t.message == nil {
			kind, message, err := t.conn.NextReader()
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return 0, io.EOF
			}
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errors.New("a message is not binary")
			}
			t.message = message
		}
		n, err := t.message.Read(p)
		if n > 0 || err != io.EOF {
			return n, err
		}
		t.message = nil
	}
}

// Write sends what each call brings as one message: spdystream calls it for every field of a frame.
func (t *tunnel) Write(p []byte) (int, error) {
	writer, err := t.conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return 0, err
	}
	n, err := writer.Write(p)
	return n, errors.Join(err, writer.Close())
}

func (t *tunnel) Close() error {
	var err error
	t.once.Do(func() {
		message := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = t.conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second))
		err = t.conn.Close()
	})
	return err
}

func (t *tunnel) LocalAddr() net.Addr                { return t.conn.LocalAddr() }
func (t *tunnel) RemoteAddr() net.Addr               { return t.conn.RemoteAddr() }
func (t *tunnel) SetReadDeadline(at time.Time) error { return t.conn.SetReadDeadline(at) }
func (t *tunnel) SetWriteDeadline(at time.Time) error {
	return t.conn.SetWriteDeadline(at)
}
func (t *tunnel) SetDeadline(at time.Time) error {
	return errors.Join(t.SetReadDeadline(at), t.SetWriteDeadline(at))
}
