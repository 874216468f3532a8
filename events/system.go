package events

import (
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// Topics of the cluster itself.  Every node makes their events from the log that all nodes have, for its own subscribers.
const (
	// TopicName has an event for each name that is registered, tagged or removed.
	TopicName = "$cluster.name"
	// TopicMember has an event for each node that comes or goes, and each member of a group that joins, leaves, or is suspected.
	TopicMember = "$cluster.member"
)

// clusterPublisher numbers events of the cluster by the revisions of its state, in which changesPerRevision fit.
var clusterPublisher = publisherID{'c', 'l', 'u', 's', 't', 'e', 'r'}

const changesPerRevision = 1 << 16

// Changes takes what an entry of the log changed.  It does not wait: it is called by raft.
func (b *Broker) Changes(changes []fsm.Change) {
	select {
	case b.refresh <- struct{}{}:
	default:
	}
	select {
	case b.system <- changes:
	default: // nobody can follow that: the subscribers are told
		select {
		case <-b.system:
		default:
		}
		select {
		case b.system <- []fsm.Change{{Kind: fsm.ChangeRestored}}:
		default:
		}
	}
}

// followChanges publishes changes to the subscribers of this node.
func (b *Broker) followChanges() {
	var revision, n uint64
	for {
		select {
		case changes := <-b.system:
			for _, c := range changes {
				if c.Revision != revision {
					revision, n = c.Revision, 0
				}
				b.publishChange(c, revision*changesPerRevision+n)
				n = min(n+1, changesPerRevision-1)
			}
		case <-b.ctx.Done():
			return
		}
	}
}

// publishChange gives a change to the streams of this node and to the callbacks that it is to call.
func (b *Broker) publishChange(c fsm.Change, sequence uint64) {
	if c.Kind == fsm.ChangeRestored {
		b.missChanges()
		return
	}
	topic, message := describe(c)
	if topic == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.hears(topic) {
		return
	}
	id, s, _ := serializerID("msgpack")
	payload, err := s.AppendValue(nil, message)
	if err != nil {
		b.opts.Logger.Error("events: change of the cluster", "topic", topic, "error", err)
		return
	}
	e := newRouted(Event{Topic: topic, Time: time.Unix(0, c.Time), publisher: clusterPublisher, sequence: sequence, serializer: id, payload: payload})
	b.local.match(topic, func(s *stream) { s.queue.put(e) })
	b.called.match(topic, func(cb *callback) {
		if cb.worker != nil && c.Revision > cb.sub.Assigned { // before that it was another node's to call
			cb.worker.queue.put(e)
		}
	})
}

// hears reports whether anybody of this node wants a topic.
func (b *Broker) hears(topic string) (heard bool) {
	b.local.match(topic, func(*stream) { heard = true })
	b.called.match(topic, func(cb *callback) { heard = heard || cb.worker != nil })
	return heard
}

// missChanges tells those who follow the cluster that they may have missed something.
func (b *Broker) missChanges() {
	const reason = "this node took over the state as a whole"
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range []string{TopicName, TopicMember} {
		b.local.match(topic, func(s *stream) { s.queue.miss(reason) })
		b.called.match(topic, func(cb *callback) {
			if cb.worker != nil {
				cb.worker.queue.miss(reason)
			}
		})
	}
}

// describe returns the topic and the message of a change; no topic if it is of no interest outside.
func describe(c fsm.Change) (topic string, message core.Dict) {
	name := func(action string) (string, core.Dict) {
		return TopicName, core.Dict{{Key: "action", Value: action}, {Key: "name", Value: c.Name}, {Key: "uri", Value: c.URI},
			{Key: "tags", Value: texts(c.Tags)}, {Key: "revision", Value: c.Revision}}
	}
	member := func(action string) (string, core.Dict) {
		return TopicMember, core.Dict{{Key: "action", Value: action}, {Key: "group", Value: c.Name}, {Key: "member", Value: c.Member.ID},
			{Key: "uri", Value: c.Member.URI}, {Key: "reason", Value: c.Member.Reason}, {Key: "revision", Value: c.Revision}}
	}
	node := func(action string) (string, core.Dict) {
		return TopicMember, core.Dict{{Key: "action", Value: action}, {Key: "node", Value: c.Node.ID}, {Key: "address", Value: c.Node.PyroAddress},
			{Key: "revision", Value: c.Revision}}
	}
	switch c.Kind {
	case fsm.ChangeNameSet:
		return name("registered")
	case fsm.ChangeNameTags:
		return name("tagged")
	case fsm.ChangeNameRemoved:
		return name("removed")
	case fsm.ChangeMemberJoined:
		return member("joined")
	case fsm.ChangeMemberLeft:
		return member("left")
	case fsm.ChangeMemberHealth:
		if c.Member.Health == fsm.Suspect {
			return member("suspected")
		}
		return member("alive")
	case fsm.ChangeNodeSet:
		return node("node joined")
	case fsm.ChangeNodeRemoved:
		return node("node removed")
	}
	return "", nil
}

func texts(list []string) []any {
	values := make([]any, len(list))
	for i, s := range list {
		values[i] = s
	}
	return values
}
