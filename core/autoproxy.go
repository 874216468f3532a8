package core

import (
	"context"
	"reflect"
)

// target is what a serializer has to know of who is to read what it writes.
type target struct {
	pyro4  bool    // classes are those of Pyro4
	daemon *Daemon // whose objects become proxies of them when they are sent (Pyro5 docs, "Autoproxying"); nil for none
}

// reduce is reduce for the target.
func (t target) reduce(v any) (any, error) {
	if t.daemon != nil {
		v = t.daemon.proxied(v)
	}
	reduced, err := reduce(v)
	if err == nil && t.pyro4 {
		reduced = pyro4Reduced(reduced)
	}
	return reduced, err
}

// withDaemon returns s with the objects of a daemon, unless that is nil.  Marshal has no proxies, as in Pyro5.
func withDaemon(s Serializer, d *Daemon) Serializer {
	if d == nil {
		return s
	}
	switch s := s.(type) {
	case serpentSerializer:
		s.daemon = d
		return s
	case jsonSerializer:
		s.daemon = d
		return s
	case msgpackSerializer:
		s.daemon = d
		return s
	case xmlSerializer:
		s.daemon = d
		return s
	}
	return s
}

// proxied returns a proxy of a value that is an object of the daemon, or points to one, and other values as they are.
func (d *Daemon) proxied(v any) any {
	rv := reflect.ValueOf(v)
	for range maxDepth {
		if rv.Kind() != reflect.Pointer || rv.IsNil() || !rv.CanInterface() {
			break
		}
		if p, ok := d.proxyOf(rv.Interface()); ok {
			return p
		}
		rv = rv.Elem()
	}
	return v
}

// proxyOf returns a proxy of a value that is an object of the daemon.
func (d *Daemon) proxyOf(v any) (ProxyState, bool) {
	if reflect.ValueOf(v).Kind() != reflect.Pointer {
		return ProxyState{}, false
	}
	id, ok := d.pointers.Load(v)
	if !ok {
		return ProxyState{}, false
	}
	o := d.object(id.(string))
	if o == nil || o.pointer != v {
		return ProxyState{}, false
	}
	return ProxyState{URI: d.URI(id.(string)), Methods: o.meta.Methods, Oneway: o.meta.Oneway, Attrs: o.meta.Attrs}, true
}

// identity returns what makes obj recognizable when it is sent; nil if nothing does: values that are no pointers, and pointers to nothing, of which
// Go may make one.
func identity(obj any) any {
	t := reflect.TypeOf(obj)
	if t.Kind() != reflect.Pointer || t.Elem().Size() == 0 {
		return nil
	}
	if _, ok := obj.(*Factory); ok {
		return nil
	}
	return obj
}

// daemon returns the one whose objects become proxies in calls with ctx.
func (p *Proxy) daemon(ctx context.Context) *Daemon {
	if p.opts.Daemon != nil {
		return p.opts.Daemon
	}
	if call, ok := ctx.Value(servedCallKey{}).(*servedCall); ok && call.conn != nil {
		return call.conn.d
	}
	return nil
}
