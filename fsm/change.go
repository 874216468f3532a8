package fsm

// ChangeKind says what a [Change] is.
type ChangeKind uint8

// The kinds of changes, and the fields of Change that each uses beside Revision and Time.
const (
	ChangeNameSet      ChangeKind = iota + 1 // Name, URI, Tags of an entry that was registered, anew too
	ChangeNameTags                           // Name, Tags
	ChangeNameRemoved                        // Name of an entry or a group that was removed, not of a group whose last member left
	ChangeMemberJoined                       // Name is the group, Member; also a member that began a new life
	ChangeMemberLeft                         // Name is the group, Member
	ChangeMemberHealth                       // Name is the group, Member
	ChangeNodeSet                            // Node
	ChangeNodeRemoved                        // Node
	ChangeSubscribers                        // the subscribers of the event server
	ChangeRestored                           // a snapshot replaced the state: what changed is not known
)

// Change is something that a log entry changed.  One command can make several; they have its revision.
type Change struct {
	Kind     ChangeKind
	Revision uint64
	Time     int64 // stamped by the leader, nanoseconds since 1970

	Name   string
	URI    string
	Tags   []string
	Member Member
	Node   Node
}

// Observe has f called with the changes of each log entry that has any, in their order, once the view with them can be read.  It is to be
// called before the first Apply; f is called by the goroutine that applies, and must be quick.  Without it nothing is collected.
func (s *State) Observe(f func(changes []Change)) { s.observer = f }

// note adds a change of the command under way.
func (t *txn) note(c Change) {
	if t.changes == nil {
		return
	}
	c.Revision, c.Time = t.revision, t.time
	*t.changes = append(*t.changes, c)
}
