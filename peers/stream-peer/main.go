// Command stream-peer talks SPDY/3.1 and WebSocket as kubectl and kube-apiserver do. See README.md.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/spdystream"
	"github.com/moby/spdystream/spdy"
)

const tunnelProtocol = "SPDY/3.1+portforward.k8s.io"

// Buffers of the size that client-go gives its WebSocket connections.
const buffer = 33 * 1024

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stream-peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "frames":
		return writeFrames(os.Stdout)
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) >= 4 && args[0] == "dial":
		numbers := make([]int, 0, 2)
		for _, arg := range args[4:] {
			number, err := strconv.Atoi(arg)
			if err != nil {
				return err
			}
			numbers = append(numbers, number)
		}
		return dial(args[1], args[2], args[3], append(numbers, 0, 0))
	}
	return fmt.Errorf("usage: frames | serve TRANSPORT | dial TRANSPORT ADDRESS SCENARIO [NUMBER...]")
}

func writeFrames(out io.Writer) error {
	framer, err := spdy.NewFramer(out, nil)
	if err != nil {
		return err
	}
	for _, frame := range []spdy.Frame{
		&spdy.SynStreamFrame{StreamId: 1, Headers: http.Header{"Streamtype": {"data", "error"}}},
		&spdy.SynReplyFrame{StreamId: 1, Headers: http.Header{"Port": {"5554"}}},
		&spdy.DataFrame{StreamId: 1, Data: []byte("hello")},
		&spdy.PingFrame{Id: 1},
		&spdy.RstStreamFrame{StreamId: 1, Status: spdy.Cancel},
		&spdy.DataFrame{StreamId: 3, Flags: spdy.DataFlagFin},
		&spdy.GoAwayFrame{LastGoodStreamId: 1, Status: spdy.GoAwayOK},
	} {
		if err := framer.WriteFrame(frame); err != nil {
			return err
		}
	}
	return nil
}

func serve(transport string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	// Whoever started this program ends it by closing its stdin, also by dying.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if transport == "spdy" {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return err
			}
			go serveStreams(conn)
		}
	}
	protocol := tunnelProtocol
	if transport != "tunnel" {
		protocol = transport + ".channel.k8s.io"
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{protocol}, ReadBufferSize: buffer, WriteBufferSize: buffer}
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if transport == "tunnel" {
			serveStreams(&tunnel{conn: conn})
		} else if err := serveChannels(conn, transport); err != nil {
			fmt.Fprintln(os.Stderr, "stream-peer:", err)
		}
	}))
}

func dial(transport, address, scenario string, numbers []int) error {
	if transport == "spdy" {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return dialStreams(conn, scenario, numbers)
	}
	protocol := tunnelProtocol
	if transport != "tunnel" {
		protocol = transport + ".channel.k8s.io"
	}
	dialer := websocket.Dialer{
		Subprotocols:     []string{"other.k8s.io", protocol},
		ReadBufferSize:   buffer,
		WriteBufferSize:  buffer,
		HandshakeTimeout: 10 * time.Second,
	}
	conn, _, err := dialer.Dial("ws://"+address+"/", nil)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if conn.Subprotocol() != protocol {
		return fmt.Errorf("the server chose %q", conn.Subprotocol())
	}
	if transport == "tunnel" {
		return dialStreams(&tunnel{conn: conn}, scenario, numbers)
	}
	return dialChannels(conn, transport, numbers[0])
}

func newConnection(conn net.Conn, server bool, handler spdystream.StreamHandler) (*spdystream.Connection, error) {
	session, err := spdystream.NewConnection(conn, server)
	if err == nil {
		go session.Serve(handler)
	}
	return session, err
}
