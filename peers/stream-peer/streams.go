package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/spdystream"
)

// chunk is what io.Copy moves at once, and so the size of most of kubectl's data frames.
const chunk = 32 * 1024

// patience bounds every wait: a test that hangs says where.
const patience = 60 * time.Second

func patternByte(seed, place int) byte {
	return byte((uint32(place)*2654435761 + uint32(seed)*40503) >> 13)
}

func pattern(seed, from, length int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = patternByte(seed, from+i)
	}
	return data
}

func writePattern(to io.Writer, seed, size int) error {
	for from := 0; from < size; from += chunk {
		if _, err := to.Write(pattern(seed, from, min(chunk, size-from))); err != nil {
			return fmt.Errorf("writing at %d: %w", from, err)
		}
	}
	return nil
}

func readPattern(from io.Reader, seed, size int) error {
	buffer := make([]byte, chunk)
	place := 0
	for {
		n, err := from.Read(buffer)
		if !bytes.Equal(buffer[:n], pattern(seed, place, n)) {
			return fmt.Errorf("other bytes at %d", place)
		}
		place += n
		if err == io.EOF {
			if place != size {
				return fmt.Errorf("%d bytes instead of %d", place, size)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func dump(headers http.Header) string {
	lines := make([]string, 0, len(headers))
	for name, values := range headers {
		for i, value := range values {
			lines = append(lines, fmt.Sprintf("%s/%d=%s\n", strings.ToLower(name), i, value))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}

func summary(length int64, sum []byte) string { return fmt.Sprintf("%d %x", length, sum) }

func serveStreams(conn net.Conn) {
	var resets atomic.Int64
	session, err := newConnection(conn, true, func(stream *spdystream.Stream) {
		headers := stream.Headers()
		if headers.Get("behaviour") == "refuse" {
			_ = stream.Refuse()
			return
		}
		// spdystream drops data that arrives before the reply; it calls this before it looks at any.
		_ = stream.SendReply(http.Header{"Seen": {headers.Get("behaviour")}}, false)
		go serveStream(stream, headers, &resets)
	})
	if err == nil {
		<-session.CloseChan()
	}
	_ = conn.Close()
}

func serveStream(stream *spdystream.Stream, headers http.Header, resets *atomic.Int64) {
	seed, _ := strconv.Atoi(headers.Get("seed"))
	size, _ := strconv.Atoi(headers.Get("size"))
	switch headers.Get("behaviour") {
	case "echo":
		if _, err := io.Copy(stream, stream); err != nil {
			return
		}
	case "sink":
		hash := sha256.New()
		length, err := io.Copy(hash, stream)
		if err != nil {
			return
		}
		_, _ = io.WriteString(stream, summary(length, hash.Sum(nil)))
	case "source":
		if writePattern(stream, seed, size) != nil {
			return
		}
	case "headers":
		_, _ = io.WriteString(stream, dump(headers))
	case "reset":
		_, _ = stream.Read(make([]byte, 1))
		_ = stream.Reset()
		return
	case "silent":
		return
	case "await-reset":
		// To spdystream a reset is the end of the data, after which its own side is finished too.
		_, _ = io.Copy(io.Discard, stream)
		for range 1000 {
			if stream.IsFinished() {
				resets.Add(1)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		return
	case "resets":
		_, _ = io.WriteString(stream, strconv.FormatInt(resets.Load(), 10))
	}
	_ = stream.Close()
}

type client struct{ session *spdystream.Connection }

func (c client) open(behaviour string, seed, size int) (*spdystream.Stream, error) {
	return c.openWith(http.Header{"Behaviour": {behaviour}, "Seed": {strconv.Itoa(seed)}, "Size": {strconv.Itoa(size)}})
}

func (c client) openWith(headers http.Header) (*spdystream.Stream, error) {
	stream, err := c.session.CreateStream(headers, nil, false)
	if err != nil {
		return nil, err
	}
	return stream, stream.WaitTimeout(patience)
}

// answer opens a stream, closes our side, and reads all.
func (c client) answer(headers http.Header) (string, error) {
	stream, err := c.openWith(headers)
	if err != nil {
		return "", err
	}
	if err := stream.Close(); err != nil {
		return "", err
	}
	text, err := io.ReadAll(stream)
	return string(text), err
}

// together runs the same for many streams at once.
func together(streams int, each func(seed int) error) error {
	var wait sync.WaitGroup
	failures := make([]error, streams)
	for seed := range streams {
		wait.Go(func() {
			if err := each(seed); err != nil {
				failures[seed] = fmt.Errorf("stream %d: %w", seed, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(failures...)
}

func dialStreams(conn net.Conn, scenario string, numbers []int) error {
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	session, err := newConnection(conn, false, spdystream.NoOpStreamHandler)
	if err != nil {
		return err
	}
	c := client{session}
	if err := c.run(scenario, numbers); err != nil {
		return fmt.Errorf("%s: %w", scenario, err)
	}
	return session.CloseWait()
}

func (c client) run(scenario string, numbers []int) error {
	streams, size := numbers[0], numbers[1]
	switch scenario {
	case "echo":
		return together(streams, func(seed int) error { return c.echo(seed, size) })
	case "sink":
		return together(streams, func(seed int) error {
			stream, err := c.open("sink", seed, size)
			if err != nil {
				return err
			}
			if err := errors.Join(writePattern(stream, seed, size), stream.Close()); err != nil {
				return err
			}
			text, err := io.ReadAll(stream)
			sum := sha256.Sum256(pattern(seed, 0, size))
			if want := summary(int64(size), sum[:]); string(text) != want {
				err = errors.Join(err, fmt.Errorf("%q instead of %q", text, want))
			}
			return err
		})
	case "source":
		return together(streams, func(seed int) error {
			stream, err := c.open("source", seed, size)
			if err != nil {
				return err
			}
			return errors.Join(readPattern(stream, seed, size), stream.Close())
		})
	case "headers":
		headers := http.Header{"Behaviour": {"headers"}, "Empty": {""}}
		for name := range 20 {
			for value := range 5 {
				headers.Add(fmt.Sprintf("Name-%d", name), fmt.Sprintf("value %d, of ä", value))
			}
		}
		text, err := c.answer(headers)
		if want := dump(headers); text != want {
			err = errors.Join(err, fmt.Errorf("%q instead of %q", text, want))
		}
		return err
	case "reset":
		return c.resets(streams)
	case "refuse":
		if _, err := c.open("refuse", 0, 0); err != spdystream.ErrReset {
			return fmt.Errorf("%v instead of a refusal", err)
		}
		return c.echo(1, 10)
	case "ping":
		for range streams {
			if _, err := c.session.Ping(); err != nil {
				return err
			}
		}
		return nil
	case "silent":
		// numbers[0] bytes for a stream that nobody reads; another one must get through all the same.
		stream, err := c.open("silent", 0, 0)
		if err != nil {
			return err
		}
		go func() { _ = writePattern(stream, 0, numbers[0]) }()
		return c.echo(1, 1<<20)
	}
	return fmt.Errorf("no such scenario")
}

func (c client) echo(seed, size int) error {
	stream, err := c.open("echo", seed, size)
	if err != nil {
		return err
	}
	read := make(chan error, 1)
	go func() { read <- readPattern(stream, seed, size) }()
	if err := errors.Join(writePattern(stream, seed, size), stream.Close()); err != nil {
		return err
	}
	return <-read
}

// resets lets the server reset streams, resets as many itself, and asks the server how many it has seen.
func (c client) resets(streams int) error {
	err := together(streams, func(int) error {
		stream, err := c.open("reset", 0, 0)
		if err != nil {
			return err
		}
		if _, err := stream.Write([]byte("x")); err != nil {
			return err
		}
		// To spdystream a reset is the end of the data.
		text, err := io.ReadAll(stream)
		if err != nil || len(text) > 0 {
			return fmt.Errorf("%q, %v instead of a reset", text, err)
		}
		stream, err = c.open("await-reset", 0, 0)
		if err != nil {
			return err
		}
		return stream.Reset()
	})
	if err != nil {
		return err
	}
	for range 1000 {
		text, err := c.answer(http.Header{"Behaviour": {"resets"}})
		if err != nil {
			return err
		}
		if text == strconv.Itoa(streams) {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.New("the server has not seen all resets")
}
