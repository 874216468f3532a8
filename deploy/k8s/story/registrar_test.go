package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeStream answers lines as the program in the pod does: answer returns what it says to a name, after a while, and whether it goes on.
func fakeStream(answer func(name, uri string) (text string, after time.Duration, more bool)) func(ctx context.Context) (*stream, error) {
	return func(ctx context.Context) (*stream, error) {
		stdin, feed := io.Pipe()
		out, says := io.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer says.Close()
			defer stdin.Close()
			for lines := bufio.NewScanner(stdin); lines.Scan(); {
				name, uri, _ := strings.Cut(lines.Text(), " ")
				text, after, more := answer(name, uri)
				pause(ctx, after)
				if ctx.Err() != nil {
					return
				}
				io.WriteString(says, text)
				if !more {
					return
				}
			}
		}()
		stop := context.AfterFunc(ctx, func() { stdin.Close() })
		return &stream{feed, out, func() error { <-ended; stop(); return nil }}, nil
	}
}

// register runs a registrar for a while and returns it.
func register(t *testing.T, length time.Duration, start func(ctx context.Context) (*stream, error)) *registrar {
	t.Helper()
	r := newRegistrar(100*time.Millisecond, 5*time.Second, start)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	r.run(ctx)
	return r
}

func TestRegistrar(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	registered := func(name string) string { return "registered " + name + "\n" }
	number := func(name string) (n int) { fmt.Sscanf(name, namePrefix+"%d", &n); return n }
	for _, test := range []struct {
		name       string
		answer     func(name, uri string) (string, time.Duration, bool)
		good, fail int
		gap        time.Duration
		reason     string
	}{
		{"all is well", func(name, _ string) (string, time.Duration, bool) { return registered(name), 10 * ms, true }, 100, 0, 10 * ms, ""},
		{"kubectl remarks something", func(name, _ string) (string, time.Duration, bool) {
			return "Warning: x\n" + registered(name), 10 * ms, true
		}, 100, 0, 10 * ms, ""},
		{"the answer takes a while", func(name, _ string) (string, time.Duration, bool) {
			if number(name) == 50 {
				return registered(name), 2 * time.Second, true
			}
			return registered(name), 10 * ms, true
		}, 81, 0, 2 * time.Second, ""},
		{"a name is refused", func(name, _ string) (string, time.Duration, bool) {
			if number(name) == 50 {
				return "pyro-cluster: ns register: line 50: name already registered: x\n", 10 * ms, true
			}
			return registered(name), 10 * ms, true
		}, 98, 1, 220 * ms, "line 50: name already registered: x"},
		{"no answer from the nodes ends the program", func(name, _ string) (string, time.Duration, bool) {
			if number(name) == 50 {
				return "pyro-cluster: ns register: line 50: no answer\n", 3 * time.Second, false
			}
			return registered(name), 10 * ms, true
		}, 66, 1, 3210 * ms, "line 50: no answer"},
		{"no answer at all", func(name, _ string) (string, time.Duration, bool) {
			if number(name) == 50 {
				return "", time.Hour, true
			}
			return registered(name), 10 * ms, true
		}, 49, 1, 5100 * ms, "no answer in 5s"},
		{"the answer is to another name", func(name, _ string) (string, time.Duration, bool) {
			if number(name) == 50 {
				return registered(namePrefix + "49"), 10 * ms, true
			}
			return registered(name), 10 * ms, true
		}, 49, 1, 5100 * ms, "no answer in 5s"},
		{"the stream breaks", func(name, _ string) (string, time.Duration, bool) {
			return registered(name), 10 * ms, number(name) != 50
		}, 97, 1, 0, "the stream ended"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := register(t, 10*time.Second, fakeStream(test.answer))
				got := r.take()
				if len(r.acknowledged()) != got.good {
					t.Errorf("%d names remembered of %d", len(r.acknowledged()), got.good)
				}
				if test.gap == 0 {
					test.gap = got.gap
				}
				if diff := got.good - test.good; diff < -2 || diff > 2 || got.failed != test.fail || got.gap != test.gap || got.reason != test.reason {
					t.Errorf("got %+v, want about %d good, %d failed (%q), gap %v", got, test.good, test.fail, test.reason, test.gap)
				}
				if again := r.take(); again.good != 0 || again.failed != 0 {
					t.Errorf("taken twice: %+v", again)
				}
			})
		})
	}
}

// TestRegistrarCannotStart: a stream that cannot be started is tried again, and counts as failed.
func TestRegistrarCannotStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := register(t, 900*time.Millisecond, func(context.Context) (*stream, error) { return nil, errors.New("no kubectl") })
		if got := r.take(); got.good != 0 || got.failed != 5 || got.reason != "no kubectl" {
			t.Errorf("got %+v, want 5 tries in 0.9 s, and why", got)
		}
	})
}

func TestLost(t *testing.T) {
	t.Parallel()
	acked := map[string]string{"a": "u1", "b": "u2", "c": "u3"}
	for _, test := range []struct {
		name  string
		there map[string]string
		want  []string
	}{
		{"all there, and more", map[string]string{"a": "u1", "b": "u2", "c": "u3", "d": "u4"}, nil},
		{"one gone", map[string]string{"a": "u1", "c": "u3"}, []string{"b"}},
		{"one is another's", map[string]string{"a": "u1", "b": "u2", "c": "u1"}, []string{"c"}},
		{"all gone", nil, []string{"a", "b", "c"}},
	} {
		if got := lost(acked, test.there); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}
