package core

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// dispatcher passes blobs on.
type dispatcher struct{ to *Proxy }

func (d *dispatcher) Pass(ctx context.Context, b *Blob) error { return d.to.Call(ctx, "take", nil, b) }

// taker reads blobs.
type taker struct{ got chan any }

func (k *taker) Take(b *Blob) error {
	v, err := b.Value()
	k.got <- []any{b.Info(), v}
	return err
}

// Sum takes what is in a blob by its type.
func (k *taker) Sum(b *Blob) (sum int, err error) {
	var numbers []int
	err = b.Decode(&numbers)
	for _, n := range numbers {
		sum += n
	}
	return sum, err
}

func (k *taker) Plain(n int) int { return n }

// spec: S5
func TestBlob(t *testing.T) {
	t.Parallel()
	for _, serializer := range []string{"msgpack", "serpent", "marshal", "json", "xml"} {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			k := &taker{got: make(chan any, 1)}
			far := serve(t, DaemonOptions{AcceptXML: true})
			takerURI, err := far.Register("taker", k, ObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			near := serve(t, DaemonOptions{AcceptXML: true})
			// What goes between the two daemons has the serializer of the blob, whatever that of the proxy is.
			d := &dispatcher{to: NewProxy(takerURI, ProxyOptions{})}
			t.Cleanup(func() { d.to.Close() })
			uri, err := near.Register("dispatcher", d, ObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p := NewProxy(uri, ProxyOptions{Serializer: serializer})
			defer p.Close()
			value := map[string]any{"a": int64(1), "text": strings.Repeat("x", 3000)}
			for range 2 {
				if err := p.Call(t.Context(), "pass", nil, NewBlob("topic", value)); err != nil {
					t.Fatal(err)
				}
				if got, want := within(t, k.got), any([]any{"topic", value}); !reflect.DeepEqual(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				if err := d.to.Call(t.Context(), "plain", nil, 1); err != nil { // with the proxy's own serializer
					t.Errorf("a call after it: %v", err)
				}
			}
			q := NewProxy(takerURI, ProxyOptions{Serializer: serializer})
			defer q.Close()
			var sum int
			if err := q.Call(t.Context(), "sum", &sum, NewBlob(nil, []int{1, 2, 3})); err != nil || sum != 6 {
				t.Errorf("sum: got %d, %v, want 6", sum, err)
			}
			if err := q.Call(t.Context(), "sum", &sum, NewBlob(nil, "text")); err == nil {
				t.Error("a blob with a text in place of numbers: no error")
			}
			if err := q.Call(t.Context(), "plain", nil, NewBlob(nil, 1)); !errors.Is(err, TypeError) {
				t.Errorf("a method that takes no blob: got %v, want a TypeError", err)
			}
			if err := q.Call(t.Context(), "sum", nil, []int{1}); !errors.Is(err, TypeError) {
				t.Errorf("a method that takes a blob, without one: got %v, want a TypeError", err)
			}
		})
	}
}

func TestBlobMisuse(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("taker", &taker{}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	b := NewBlob("info", 1)
	for name, args := range map[string][]any{
		"two arguments": {b, 1}, "second": {1, b}, "keywords": {b, Kwargs{"a": 1}}, "nil": {(*Blob)(nil)}, "inside of a list": {[]any{b}},
		"info that marshal does not take": {NewBlob(make(chan int), 1)}, "a value that cannot be sent": {NewBlob("x", make(chan int))},
	} {
		err := p.Call(t.Context(), "sum", nil, args...)
		if _, local := errors.AsType[*LocalError](err); !local {
			t.Errorf("%s: got %v, want a LocalError", name, err)
		}
	}
	v := NewInvocation("sum")
	defer v.Free()
	v.Args.Value(b)
	if err := p.Invoke(t.Context(), v); !errors.Is(err, errBlobInside) {
		t.Errorf("encoded before: got %v, want %v", err, errBlobInside)
	}
	if b.Info() != "info" {
		t.Error("the blob has changed")
	}
	c := connectRaw(t, d, "taker")
	good, err := marshalSerializer{}.AppendValue(nil, Tuple{"info", "taker", "sum"})
	if err != nil {
		t.Fatal(err)
	}
	list, _ := marshalSerializer{}.AppendValue(nil, []any{1})
	names, _ := marshalSerializer{}.AppendValue(nil, Tuple{1, 2, 3})
	for name, tc := range map[string]struct {
		annotations Annotations
		payload     []byte
	}{
		"no annotation":        {nil, []byte{0x94}},
		"no marshal":           {Annotations{annotationBlob: []byte("x")}, []byte{0x94}},
		"no tuple":             {Annotations{annotationBlob: list}, []byte{0x94}},
		"no names":             {Annotations{annotationBlob: names}, []byte{0x94}},
		"payload that is none": {Annotations{annotationBlob: good}, []byte{0x94}},
		"empty payload":        {Annotations{annotationBlob: good}, nil},
	} {
		c.send(header{typ: msgInvoke, serializer: msgpackID, flags: flagKeepSerialized}, tc.annotations, tc.payload)
		if m := c.receive(); m.flags&flagException == 0 {
			t.Errorf("%s: no exception", name)
		}
	}
}
