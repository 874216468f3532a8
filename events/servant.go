package events

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

const (
	maxSubjects    = 1000 // of one call
	applyTimeout   = 5 * time.Second
	defaultMessage = "msgpack" // serializer of messages whose own is not known
)

// Servant returns the object to register under [ObjectID].  The methods publish, subscribe, subscribeMatch and unsubscribe are Pyro3's; the
// others are what [Client] uses.
func (b *Broker) Servant() *core.Servant {
	required := func(names ...string) (params []core.Param) {
		for _, n := range names {
			params = append(params, core.Param{Name: n})
		}
		return params
	}
	subscriber := append(required("subjects", "subscriber"),
		core.Param{Name: "policy", Optional: true, Default: ""}, core.Param{Name: "queue", Optional: true, Default: int64(0)})
	matcher := slices.Clone(subscriber)
	matcher[0].Name = "patterns"
	return &core.Servant{Class: "EventService", Methods: []core.Method{
		{Name: "publish", Params: required("subjects", "msg"), Func: b.callPublish},
		{Name: "subscribe", Params: subscriber, Contract: core.ContractIdempotent, Func: func(ctx context.Context, args []any) (any, error) {
			return b.callSubscribe(ctx, args, ParsePattern)
		}},
		{Name: "subscribeMatch", Params: matcher, Contract: core.ContractIdempotent, Func: func(ctx context.Context, args []any) (any, error) {
			return b.callSubscribe(ctx, args, ParseExpression)
		}},
		{Name: "unsubscribe", Params: required("subjects", "subscriber"), Contract: core.ContractIdempotent, Func: b.callUnsubscribe},
		{Name: "publish_events", Params: required("publisher", "first", "events"), Func: b.callPublishEvents},
		{Name: "open_stream", Params: required("options"), Func: b.callOpenStream},
		{Name: "read_stream", Params: required("stream", "wait"), Func: b.callReadStream},
		{Name: "close_stream", Params: required("stream"), Contract: core.ContractIdempotent, Func: b.callCloseStream},
		{Name: "topics", Contract: core.ContractReadOnly, Func: func(context.Context, []any) (any, error) { return b.callTopics(), nil }},
	}}
}

func (b *Broker) callPublish(ctx context.Context, args []any) (any, error) {
	subjects, err := textList("subjects", args[0])
	if err != nil {
		return nil, err
	}
	for _, s := range subjects {
		if err := CheckTopic(s); err != nil {
			return nil, valueError(err)
		}
	}
	name := defaultMessage
	if info := core.CallInfoFrom(ctx); info != nil {
		name = info.Serializer // so that tuples, sets and so on arrive as what they are
	}
	id, s, ok := serializerID(name)
	if !ok {
		return nil, core.ValueError.New("unknown serializer %q", name)
	}
	payload, err := s.AppendValue(nil, args[1])
	if err != nil {
		return nil, core.TypeError.New("msg: %v", err)
	}
	if len(payload) > MaxEventBytes {
		return nil, core.ValueError.New("msg of %d bytes: want at most %d", len(payload), MaxEventBytes)
	}
	events := make([]submission, len(subjects))
	for i, topic := range subjects {
		events[i] = submission{topic, id, payload}
	}
	return nil, b.publish(ctx, publisherID{}, 0, events)
}

// callPublishEvents is publish for many events, whose publisher numbers them.
func (b *Broker) callPublishEvents(ctx context.Context, args []any) (any, error) {
	var id publisherID
	publisher, ok := args[0].([]byte)
	if !ok || len(publisher) != len(id) {
		return nil, core.ValueError.New("publisher: want %d bytes", len(id))
	}
	copy(id[:], publisher)
	first, ok := args[1].(int64)
	if !ok || first < 1 || id == (publisherID{}) || id == clusterPublisher {
		return nil, core.ValueError.New("publisher %x, first %v: want a number from 1 and an id", publisher, args[1])
	}
	encoded, ok := args[2].([]byte)
	if !ok || len(encoded) > maxPublishBytes+MaxEventBytes+1024 {
		return nil, core.ValueError.New("events: want bytes, at most %d", maxPublishBytes)
	}
	events, err := parseSubmissions(encoded)
	if err != nil {
		return nil, valueError(err)
	}
	return nil, b.publish(ctx, id, uint64(first), events)
}

func parseSubmissions(encoded []byte) ([]submission, error) {
	r := reader{b: encoded}
	events := make([]submission, 0, 64)
	topic := ""
	for len(r.b) > 0 {
		if len(events) == maxPublishEvents {
			return nil, core.ValueError.New("more than %d events", maxPublishEvents)
		}
		r.publisher()
		r.uint()
		r.int()
		raw := r.bytes(maxTopicBytes)
		if string(raw) != topic || len(events) == 0 { // mostly it is the same again
			topic = string(raw)
			if err := CheckTopic(topic); err != nil && r.err == nil {
				return nil, err
			}
		}
		s := submission{topic: topic, serializer: r.byte(), payload: r.bytes(MaxEventBytes)}
		if _, ok := core.SerializerByID(s.serializer); !ok && r.err == nil {
			return nil, core.ValueError.New("message in unknown serializer %d", s.serializer)
		}
		if r.err != nil {
			return nil, r.err
		}
		events = append(events, s)
	}
	return events, r.err
}

func (b *Broker) callSubscribe(ctx context.Context, args []any, parse func(string) (Pattern, error)) (any, error) {
	texts, err := textList("subjects", args[0])
	if err != nil {
		return nil, err
	}
	sub, err := subscriberOf(args[1])
	if err != nil {
		return nil, err
	}
	if info := core.CallInfoFrom(ctx); info != nil && sub.Serializer == "" {
		sub.Serializer = info.Serializer // the one that its program speaks
	}
	policy, queue, err := limitsOf(args[2], args[3])
	if err != nil {
		return nil, err
	}
	sub.Policy, sub.Queue = string(policy), queue
	for _, text := range texts {
		p, err := parse(text)
		if err != nil {
			return nil, valueError(err)
		}
		sub.Patterns = append(sub.Patterns, p.String())
	}
	if !b.Running() {
		return nil, errNotRunning()
	}
	if old, ok := b.cluster.LocalView().Subscriber(sub.URI); ok {
		sub.Owner = old.Owner // it stays where it is
		if len(old.Patterns)+len(sub.Patterns) > maxPatterns {
			return nil, core.ValueError.New("subscriber %s has %d patterns: want at most %d", sub.URI, len(old.Patterns)+len(sub.Patterns), maxPatterns)
		}
	}
	if sub.Owner == "" || !b.canOwn(sub.Owner) {
		sub.Owner = b.owner()
	}
	return nil, b.change(ctx, fsm.Command{Kind: fsm.KindSubscribe, Subscriber: sub})
}

// owner returns which node is to deliver for a callback that subscribes here: this one, unless it stops.
func (b *Broker) owner() string {
	b.mu.Lock()
	draining := b.draining
	b.mu.Unlock()
	if load := b.load(); draining && len(load) > 0 {
		for node := range load {
			return node
		}
	}
	return b.self
}

// canOwn reports whether a node may go on delivering.
func (b *Broker) canOwn(node string) bool {
	_, ok := b.load()[node]
	return ok
}

// change changes subscriptions, and returns when all nodes that answer know of it.
func (b *Broker) change(ctx context.Context, c fsm.Command) error {
	if info := core.CallInfoFrom(ctx); info != nil && info.Peer != nil {
		c.Actor = info.Peer.String()
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if _, err := b.cluster.Apply(ctx, c); err != nil {
		return core.ConnectionClosedError.New("event server: %v", err) // so that clients try another node
	}
	view, err := b.cluster.View(ctx)
	if err != nil {
		return core.ConnectionClosedError.New("event server: %v", err)
	}
	b.waitTold(ctx, 0, view.SubscribersVersion())
	return nil
}

func (b *Broker) callUnsubscribe(ctx context.Context, args []any) (any, error) {
	texts, err := textList("subjects", args[0])
	if err != nil {
		return nil, err
	}
	sub, err := subscriberOf(args[1])
	if err != nil {
		return nil, err
	}
	if !b.Running() {
		return nil, errNotRunning()
	}
	var patterns []string
	for _, text := range texts { // Pyro3 takes both in one call
		for _, parse := range []func(string) (Pattern, error){ParsePattern, ParseExpression} {
			if p, err := parse(text); err == nil {
				patterns = append(patterns, p.String())
			}
		}
	}
	if len(patterns) == 0 {
		return nil, nil // nobody can have subscribed to them
	}
	return nil, b.change(ctx, fsm.Command{Kind: fsm.KindUnsubscribe, Name: sub.URI, Names: patterns})
}

func (b *Broker) callOpenStream(ctx context.Context, args []any) (any, error) {
	options, ok := args[0].(map[string]any)
	if !ok {
		return nil, core.TypeError.New("options: want a dict")
	}
	var patterns []Pattern
	for key, parse := range map[string]func(string) (Pattern, error){"topics": ParsePattern, "expressions": ParseExpression} {
		if options[key] == nil {
			continue
		}
		texts, err := textList(key, options[key])
		if err != nil {
			return nil, err
		}
		for _, text := range texts {
			p, err := parse(text)
			if err != nil {
				return nil, valueError(err)
			}
			patterns = append(patterns, p)
		}
	}
	if len(patterns) == 0 || len(patterns) > maxPatterns {
		return nil, core.ValueError.New("%d topics and expressions: want 1 to %d", len(patterns), maxPatterns)
	}
	policy, queue, err := limitsOf(options["policy"], options["queue"])
	if err != nil {
		return nil, err
	}
	return b.openStream(ctx, patterns, policy, queue)
}

func (b *Broker) callReadStream(ctx context.Context, args []any) (any, error) {
	id, ok := args[0].(string)
	seconds, isFloat := args[1].(float64)
	if n, isInt := args[1].(int64); isInt {
		seconds, isFloat = float64(n), true
	}
	if !ok || !isFloat || math.IsNaN(seconds) {
		return nil, core.TypeError.New("want the stream's id and seconds to wait")
	}
	if !b.Running() {
		return nil, errNotRunning()
	}
	seconds = min(max(seconds, 0), maxReadWait.Seconds())
	return b.readStream(ctx, id, time.Duration(seconds*float64(time.Second))), nil
}

func (b *Broker) callCloseStream(_ context.Context, args []any) (any, error) {
	id, ok := args[0].(string)
	if !ok {
		return nil, core.TypeError.New("want the stream's id")
	}
	b.closeStream(id)
	return nil, nil
}

var kindNames = map[string]string{topicKind: "topic", wildcardKind: "wildcard", expressionKind: "expression"}

// callTopics lists what [TopicInfo] describes.
func (b *Broker) callTopics() []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	infos := map[string]*TopicInfo{}
	get := func(p Pattern) *TopicInfo {
		if infos[p.String()] == nil {
			infos[p.String()] = &TopicInfo{Pattern: p.body(), Kind: kindNames[p.kind()]}
		}
		return infos[p.String()]
	}
	for _, s := range b.streams {
		for _, p := range s.patterns {
			get(p).Streams++
		}
	}
	for _, cb := range b.callbacks {
		for _, p := range cb.patterns {
			get(p).Callbacks++
		}
	}
	for p, nodes := range b.remote.patterns() {
		get(p).Nodes = nodes
	}
	for topic, n := range b.topics {
		if p, err := ParsePattern(topic); err == nil {
			get(p).Published = n
		}
	}
	list := []any{}
	for _, key := range slices.Sorted(maps.Keys(infos)) {
		i := infos[key]
		list = append(list, map[string]any{"pattern": i.Pattern, "kind": i.Kind, "streams": i.Streams, "callbacks": i.Callbacks, "nodes": i.Nodes, "published": i.Published})
	}
	return list
}

// textList takes one string, or several in a list, tuple or set.
func textList(what string, v any) ([]string, error) {
	var items []any
	switch v := v.(type) {
	case string:
		return []string{v}, nil
	case []any:
		items = v
	case core.Tuple:
		items = v
	case core.Set:
		items = v
	case core.FrozenSet:
		items = v
	default:
		return nil, core.TypeError.New("%s: want a string or a list of strings", what)
	}
	if len(items) > maxSubjects {
		return nil, core.ValueError.New("%d %s: want at most %d", len(items), what, maxSubjects)
	}
	list := make([]string, len(items))
	for i, item := range items {
		s, ok := item.(string)
		if !ok {
			return nil, core.TypeError.New("%s: want a string or a list of strings", what)
		}
		list[i] = s
	}
	return list, nil
}

// subscriberOf takes a proxy, a URI or its text: that is the subscriber's identity.
func subscriberOf(v any) (fsm.Subscriber, error) {
	var sub fsm.Subscriber
	var uri core.URI
	switch v := v.(type) {
	case core.ProxyState:
		uri, sub.Serializer = v.URI, v.Serializer
	case core.URI:
		uri = v
	case string:
		var err error
		if uri, err = core.ParseURI(v); err != nil {
			return sub, valueError(err)
		}
	default:
		return sub, core.TypeError.New("subscriber: want a proxy, or pass an object that is registered in a daemon")
	}
	if uri.Protocol != "PYRO" || uri.Socket != "" {
		return sub, core.ValueError.New("subscriber %s: want PYRO:object@host:port, which all nodes can reach", uri)
	}
	if _, ok := core.SerializerByName(sub.Serializer); !ok {
		sub.Serializer = "" // a Python that prefers one that is not known here has others, too
	}
	if sub.URI = uri.String(); len(sub.URI) > maxURIBytes {
		return sub, core.ValueError.New("subscriber's URI has %d bytes: want at most %d", len(sub.URI), maxURIBytes)
	}
	return sub, nil
}

// limitsOf checks a policy and the size of a queue; None stands for the defaults.
func limitsOf(policy, queue any) (Policy, int, error) {
	text, ok := policy.(string)
	if !ok && policy != nil {
		return "", 0, core.TypeError.New("policy: want a string")
	}
	p, err := ParsePolicy(text)
	if err != nil {
		return "", 0, valueError(err)
	}
	n, ok := queue.(int64)
	if !ok && queue != nil {
		return "", 0, core.TypeError.New("queue: want a number of events")
	}
	size, err := checkQueue(int(min(max(n, -1), MaxQueue+1)))
	if err != nil {
		return "", 0, valueError(err)
	}
	return p, size, nil
}

// valueError is what a caller gets for a value that is not taken.
func valueError(err error) error {
	if e, ok := errors.AsType[*core.RemoteError](err); ok {
		return e
	}
	return core.ValueError.New("%v", err)
}
