package core

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
)

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceParent = "00-" + traceID + "-b7ad6b7169203331-01"
)

func TestTraceContextSyntax(t *testing.T) {
	t.Parallel()
	for parent, want := range map[string]string{
		traceParent:                       traceID,
		"01" + traceParent[2:] + "-later": traceID,
		"01" + traceParent[2:]:            traceID,
		"01" + traceParent[2:] + "later":  "",
		traceParent + "-later":            "",
		"ff" + traceParent[2:]:            "",
		strings.ToUpper(traceParent):      "",
		traceParent[:54]:                  "",
		"":                                "",
		strings.Replace(traceParent, traceID, strings.Repeat("0", 32), 1):                 "",
		strings.Replace(traceParent, "b7ad6b7169203331", strings.Repeat("0", 16), 1):      "",
		strings.Replace(traceParent, "-01", "_01", 1):                                     "",
		"01" + traceParent[2:] + "-" + strings.Repeat("x", maxTraceParent):                "",
		"01" + traceParent[2:] + "-\x80":                                                  "",
		strings.Replace(traceParent, "b7ad", "b7-d", 1):                                   "",
		strings.Replace(traceParent, traceID, "g"+strings.Repeat("0", 30)+"1", 1):         "",
		strings.Replace(traceParent, traceID+"-b7ad", traceID[:31]+"-"+"0"+"-"+"7ad1", 1): "",
	} {
		tc := TraceContext{Parent: parent}
		if got := tc.TraceID(); got != want {
			t.Errorf("%q: got trace id %q, want %q", parent, got, want)
		}
		if got := TraceContextFrom(WithTraceContext(t.Context(), tc)); got.Parent != parent && want != "" || got != (TraceContext{}) && want == "" {
			t.Errorf("%q: got %q", parent, got)
		}
	}
	for state, want := range map[string]string{
		"congo=t61rcWkgMzE":                  "congo=t61rcWkgMzE",
		"ö=1":                                "",
		strings.Repeat("x", maxTraceState):   strings.Repeat("x", maxTraceState),
		strings.Repeat("x", maxTraceState+1): "",
	} {
		if got := TraceContextFrom(WithTraceContext(t.Context(), TraceContext{traceParent, state})); got != (TraceContext{traceParent, want}) {
			t.Errorf("state of %d bytes: got %+v", len(state), got)
		}
	}
}

// TestTraceContextTravels has a method that calls another: with the trace of its caller, or one of its own, on every way that a call can take.
func TestTraceContextTravels(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d := serve(t, DaemonOptions{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	report := func(ctx context.Context, args *Decoder, result *Encoder) error {
		tc := TraceContextFrom(ctx)
		result.String(tc.Parent + " " + tc.State)
		return args.Err()
	}
	var p *Proxy // of the same object
	uri, err := d.Register("traced", &Servant{Class: "Traced", Methods: []Method{
		{Name: "direct", Direct: report},
		{Name: "boxed", Func: func(ctx context.Context, _ []any) (any, error) {
			tc := TraceContextFrom(ctx)
			return tc.Parent + " " + tc.State, nil
		}},
		{Name: "nested", Params: []Param{{Name: "method"}}, Func: func(ctx context.Context, args []any) (out any, err error) {
			return out, p.Call(ctx, args[0].(string), &out)
		}},
		{Name: "child", Func: func(ctx context.Context, _ []any) (out any, err error) {
			tc := TraceContextFrom(ctx)
			tc.Parent = strings.Replace(tc.Parent, "b7ad6b7169203331", "1111111111111111", 1)
			return out, p.Call(WithTraceContext(ctx, tc), "direct", &out)
		}},
		{Name: "without", Func: func(ctx context.Context, _ []any) (out any, err error) {
			return out, p.Call(WithTraceContext(ctx, TraceContext{}), "direct", &out)
		}},
		{Name: "panics", Func: func(context.Context, []any) (any, error) { panic("here") }},
	}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	here := WithTraceContext(t.Context(), TraceContext{traceParent, "a=b"})
	asPython := WithAnnotations(t.Context(), Annotations{"PCTP": []byte(traceParent), "PCTS": []byte("a=b")})
	wrong := WithAnnotations(t.Context(), Annotations{"PCTP": []byte("00-x"), "PCTS": []byte("a=b")})
	for _, opts := range []ProxyOptions{{}, {Plain: true}, {Serializer: "serpent"}, {Protocol: 48, Serializer: "serpent"}} {
		p = NewProxy(uri, opts)
		for _, test := range []struct {
			name   string
			ctx    context.Context
			method string
			args   []any
			want   string
		}{
			{"none", t.Context(), "direct", nil, " "},
			{"given", here, "direct", nil, traceParent + " a=b"},
			{"boxed", here, "boxed", nil, traceParent + " a=b"},
			{"of a Python program", asPython, "nested", []any{"direct"}, traceParent + " a=b"},
			{"not valid", wrong, "nested", []any{"boxed"}, " "},
			{"inherited", here, "nested", []any{"boxed"}, traceParent + " a=b"},
			{"child", here, "child", nil, "00-" + traceID + "-1111111111111111-01 a=b"},
			{"ended", here, "without", nil, " "},
		} {
			var got string
			if err := p.Call(test.ctx, test.method, &got, test.args...); err != nil || got != test.want {
				t.Errorf("%s, %+v: got %q, %v; want %q", test.name, opts, got, err, test.want)
			}
		}
		p.Close()
	}
	p = NewProxy(uri, ProxyOptions{})
	defer p.Close()
	if err := p.Call(here, "panics", nil); err == nil {
		t.Error("panics: got no error")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `"trace_id":"`+traceID+`"`) {
		t.Errorf("log: got %s, want the trace's id", log.String())
	}
}
