package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
)

// Blob is an argument that is passed on as it came, without being read: what a dispatcher gets and sends on to others, who know what is in it (Pyro5
// docs, "Passing on serialized data": SerializedBlob).  It has to be the only argument of a call.  Methods with a parameter of type *Blob take one.
// It is not changed once made, so many goroutines may use it.
type Blob struct {
	info  any
	value any // of one that was made here

	// Of one that came in a request: the request's payload, and how it is to be read.
	serializer Serializer
	payload    []byte
}

// NewBlob returns a blob of a value.  info is what those see who pass it on: something small that the serializer "marshal" takes, such as a name.
func NewBlob(info, value any) *Blob { return &Blob{info: info, value: value} }

// Info returns what the blob says about itself.
func (b *Blob) Info() any { return b.info }

// Value reads what is in the blob.
func (b *Blob) Value() (any, error) {
	if b.serializer == nil {
		return b.value, nil
	}
	v, err := b.serializer.ParseValue(b.payload)
	if err != nil {
		return nil, err
	}
	if parts, ok := sequence(v); ok && len(parts) == 4 {
		return parts[2], nil
	}
	if m, ok := v.(map[string]any); ok { // JSON
		if value, ok := m["params"]; ok {
			return value, nil
		}
	}
	return nil, errNoRequest
}

// Decode reads what is in the blob into the variable that out points to, as [Convert] does.
func (b *Blob) Decode(out any) error {
	v, err := b.Value()
	if err != nil {
		return err
	}
	return Convert(out, v)
}

var (
	errBlobNotAlone = errors.New("core: if a Blob is used, it must be the only argument")
	errBlobInside   = errors.New("a Blob is no part of values: it is the only argument of Call, which generated proxies do not use")

	blobType = reflect.TypeFor[Blob]()
)

// blobOf returns the blob that a request consists of; nil if there is none.
func blobOf(r Request) (*Blob, error) {
	for _, a := range r.Args {
		b, ok := a.(*Blob)
		if !ok {
			continue
		}
		if b == nil || len(r.Args) > 1 || len(r.Kwargs) > 0 || r.Method == "__setattr__" {
			return nil, &LocalError{Err: errBlobNotAlone}
		}
		return b, nil
	}
	return nil, nil
}

// invokeBlob is invoke for a request that is a blob, which has a serializer of its own.
func (c *clientConn) invokeBlob(ctx context.Context, r Request, b *Blob, flags uint16, out any) error {
	target, err := marshalSerializer{}.AppendValue(nil, Tuple{b.info, r.Object, r.Method})
	if err != nil {
		return &LocalError{Err: fmt.Errorf("core: %s: info of the blob: %w", r.Method, err)}
	}
	if b.serializer != nil {
		own := c.serializer
		defer func() { c.serializer = own }()
		version := protocolVersion
		if c.pyro4 != nil {
			version = version48
		}
		if c.serializer, err = serializerFor(version, b.serializer.Name()); err != nil {
			return err
		}
	}
	ctx = WithAnnotations(ctx, Annotations{annotationBlob: target})
	m, err := c.requestWith(ctx, r.Method, flags|flagKeepSerialized, func(dst []byte) ([]byte, error) {
		if b.serializer != nil {
			return append(dst, b.payload...), nil
		}
		if c.serializer.ID() == (jsonSerializer{}).ID() {
			return c.serializer.AppendValue(dst, Dict{{"object", r.Object}, {"method", r.Method}, {"params", b.value}, {"kwargs", noKwargs}})
		}
		return c.serializer.AppendValue(dst, Tuple{r.Object, r.Method, b.value, noKwargs})
	})
	switch {
	case err != nil:
		return err
	case flags&flagOneway != 0:
		return c.store(out, r.Method, nil)
	}
	return c.result(ctx, m, r.Method, out)
}

// blobRequest reads a request that is a blob.
func blobRequest(m message, s Serializer) (Request, error) {
	data, ok := m.annotation(annotationBlob)
	if !ok {
		return Request{}, fmt.Errorf("a blob without annotation %s", annotationBlob)
	}
	v, err := marshalSerializer{}.ParseValue(data)
	if err != nil {
		return Request{}, fmt.Errorf("annotation %s: %v", annotationBlob, err)
	}
	parts, ok := v.(Tuple)
	if !ok || len(parts) != 3 {
		return Request{}, fmt.Errorf("annotation %s is no tuple of 3", annotationBlob)
	}
	object, ok1 := parts[1].(string)
	method, ok2 := parts[2].(string)
	if !ok1 || !ok2 {
		return Request{}, fmt.Errorf("annotation %s does not name an object and a method", annotationBlob)
	}
	b := &Blob{info: parts[0], serializer: s, payload: bytes.Clone(m.payload)}
	return Request{Object: object, Method: method, Args: []any{b}, Kwargs: noKwargs}, nil
}
