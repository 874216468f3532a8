package fsm

// ChangeKind says what a [Change] is.
type ChangeKind uint8

// The kinds of changes, and the fields of Change that each uses beside Revision and Time.
const (
	ChangeNameSet      ChangeKind = iota + 1 // Name, URI, Tags of an entry that was registered, anew too
	ChangeNameTags                           // Name, Tags
	ChangeNameRemoved                        // Name of an entry or a group that was removed, after its members left; not of a group whose last member left, or that an entry replaced
	ChangeMemberJoined                       // Name is the group, Member; also a member that began a new life
	ChangeMemberLeft                         // Name is the group, Member as it was; also each member of a group that was removed, or that an entry replaced
	ChangeMemberHealth                       // Name is the group, Member
	ChangeNodeSet                            // Node
	ChangeNodeRemoved                        // Node as it was
	ChangeSubscribers                        // the subscribers of the event server, one for each command and subscriber
	ChangeRestored                           // a snapshot replaced the state: what changed is not known
)

// Change is something that a log entry changed.  One command can make several, which all have its revision: who needs to tell them apart numbers
// them within it, which comes to the same on every node.  Commands that change nothing, refused and repeated ones too, make none.
type Change struct {
	Kind     ChangeKind
	Revision uint64
	Time     int64 // stamped by the leader, nanoseconds since 1970

	Name   string
	URI    string
	Tags   []string // shared with the state: must not be changed
	Member Member
	Node   Node
}

// Observe has f called with the changes of each log entry that has any, in their order, once the view with them can be read, and with
// [ChangeRestored] alone when a snapshot was restored.  It is to be called once, before the first Apply or Restore; f is called by the goroutine
// that applies, and must be quick; the slice is f's to keep.  Without it nothing is collected.
func (s *State) Observe(f func(changes []Change)) { s.observer = f }

// note adds a change of the command under way.
func (t *txn) note(c Change) {
	if t.changes == nil {
		return
	}
	c.Revision, c.Time = t.revision, t.time
	*t.changes = append(*t.changes, c)
}
