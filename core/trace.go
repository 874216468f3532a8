package core

import (
	"context"
	"log/slog"
	"maps"
	"strings"
)

// Annotations of a trace context: the two headers of W3C Trace Context as they are, so that Python programs can read and set them as well.
const (
	annotationTraceParent = "PCTP"
	annotationTraceState  = "PCTS"
)

const (
	traceParentLen = 55  // of version 00
	maxTraceParent = 256 // later versions may append to it
	maxTraceState  = 4 << 10
)

// TraceContext is the place of a call in a distributed trace (W3C Trace Context, https://www.w3.org/TR/trace-context/).  The zero value is none.
type TraceContext struct {
	Parent string // header traceparent
	State  string // header tracestate; empty if there is none
}

// TraceID returns the id of the trace, 32 hexadecimal digits; "" if there is none.
func (t TraceContext) TraceID() string {
	if !t.valid() {
		return ""
	}
	return t.Parent[3:35]
}

// valid reports whether Parent is a traceparent: version, trace id, parent id and flags, in lower-case hexadecimal digits.
func (t TraceContext) valid() bool {
	p := t.Parent
	if len(p) < traceParentLen || len(p) > maxTraceParent || !isASCII(p) || p[2] != '-' || p[35] != '-' || p[52] != '-' {
		return false
	}
	version, trace, parent, flags := p[:2], p[3:35], p[36:52], p[53:55]
	for _, part := range []string{version, trace, parent, flags} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	switch {
	case version == "ff" || strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "":
		return false
	case len(p) > traceParentLen:
		return version != "00" && p[traceParentLen] == '-'
	}
	return true
}

// WithTraceContext returns a context whose calls carry t, to servers of any kind: in annotations PCTP and PCTS.  As the standard demands, a Parent that is no
// traceparent counts as none, and a State without a Parent, of more than 4 KiB or with other than ASCII characters is left out.  With the zero value calls
// carry none.
func WithTraceContext(ctx context.Context, t TraceContext) context.Context {
	return context.WithValue(ctx, outgoingKey{}, outgoingFrom(ctx).withTrace(t))
}

// TraceContextFrom returns what calls with ctx carry: what [WithTraceContext] set, or in a method that of the call it serves; zero if there is none.
func TraceContextFrom(ctx context.Context) TraceContext {
	return outgoingFrom(ctx).annotations.trace()
}

// trace returns the trace context in annotations; zero if there is none, or none that is valid.
func (a Annotations) trace() TraceContext {
	t := TraceContext{Parent: string(a[annotationTraceParent]), State: string(a[annotationTraceState])}
	if !t.valid() {
		return TraceContext{}
	}
	if len(t.State) > maxTraceState || !isASCII(t.State) {
		t.State = ""
	}
	return t
}

// withTrace returns what calls carry whose trace context is t.
func (o *outgoing) withTrace(t TraceContext) *outgoing {
	out := *o
	out.annotations = maps.Clone(o.annotations)
	delete(out.annotations, annotationTraceParent)
	delete(out.annotations, annotationTraceState)
	if !t.valid() {
		return &out
	}
	if out.annotations == nil {
		out.annotations = make(Annotations, 2)
	}
	out.annotations[annotationTraceParent] = []byte(t.Parent)
	if t.State != "" && len(t.State) <= maxTraceState && isASCII(t.State) {
		out.annotations[annotationTraceState] = []byte(t.State)
	}
	return &out
}

// serving returns what the calls carry that the method of a call makes: its correlation id and its trace context.
func (o *outgoing) serving(info *CallInfo) *outgoing {
	if t := info.Annotations.trace(); t != (TraceContext{}) {
		o = o.withTrace(t)
	}
	return o.withID(info.CorrelationID)
}

// traceID is for logs; the zero Attr, which they leave out, if there is none.
func (c *servedCall) traceID() slog.Attr {
	if id := c.info.Annotations.trace().TraceID(); id != "" {
		return slog.String("trace_id", id)
	}
	return slog.Attr{}
}
