package core

import (
	"bytes"
	"reflect"
	"testing"
)

type appender []byte

func (a appender) AppendBytes(dst []byte) []byte { return append(dst, a...) }

func TestBytesAppender(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"serpent", "marshal", "msgpack"} {
		s, _ := SerializerByName(name)
		for _, content := range [][]byte{{}, []byte("abc"), bytes.Repeat([]byte{0xff, 0}, 40_000)} {
			for _, row := range []struct{ value, like any }{
				{appender(content), content},
				{[]any{int64(1), appender(content), "after"}, []any{int64(1), content, "after"}},
				{map[string]any{"k": appender(content)}, map[string]any{"k": content}},
			} {
				parsed := func(v any) any {
					encoded, err := s.AppendValue([]byte("before"), v)
					if err != nil || !bytes.HasPrefix(encoded, []byte("before")) {
						t.Fatalf("%s: %T: %v", name, v, err)
					}
					got, err := s.ParseValue(encoded[len("before"):])
					if err != nil {
						t.Fatalf("%s: %T: %v", name, v, err)
					}
					return got
				}
				if got, want := parsed(row.value), parsed(row.like); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %T of %d bytes differs from bytes", name, row.value, len(content))
				}
			}
		}
	}
}
