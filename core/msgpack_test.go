package core

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

func TestMsgpackSpecVectors(t *testing.T) {
	t.Parallel()
	req := Request{Object: "obj1", Method: "meth", Args: []any{int64(1), "x"}, Kwargs: map[string]any{"k": 2.5}}
	want, _ := hex.DecodeString("94a46f626a31a46d6574689201a17881a16bcb4004000000000000")
	got, err := msgpackSerializer{}.AppendRequest(nil, req)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("AppendRequest = %x, %v, want %x", got, err, want)
	}
	back, err := msgpackSerializer{}.ParseRequest(want)
	if err != nil || !reflect.DeepEqual(back, req) {
		t.Fatalf("ParseRequest = %#v, %v, want %#v", back, err, req)
	}
	for _, bad := range []string{"dd7fffffff", "", "94", "c1", strings.Repeat("91", 8<<20), "81c0", "9280c101"} {
		b, _ := hex.DecodeString(bad)
		v, err := msgpackSerializer{}.ParseValue(b)
		if err == nil {
			t.Errorf("%.20s: %v", bad, v)
		}
	}
}
