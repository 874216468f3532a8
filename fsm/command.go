package fsm

// Kind says what a [Command] does.  The numbers are in logs and snapshots: they are never used again for something else.
type Kind uint8

// The kinds of commands, and the fields of Command that each uses.  Names and groups share one name space: what is said of a name
// holds for both unless an entry or a group is meant.
const (
	KindInit           Kind = 1  // ClusterID: the first command of a cluster; later ones change nothing and return the id that stands
	KindRegister       Kind = 2  // Name, URI, Tags, Safe: see Command.Tags; overwrites what has the name
	KindRemove         Kind = 3  // Names; Result.Count is how many were there
	KindRemovePrefix   Kind = 4  // Name is the prefix, the empty one removes all; Result.Count is how many there were
	KindRemoveMatching Kind = 5  // Name is a regular expression: the leader replaces it by KindRemove before it enters the log
	KindSetTags        Kind = 6  // Name, Tags: replaces the tags
	KindJoin           Kind = 7  // Name is the group; Member.ID (empty means the URI), URI, Zone, Weight: joins or updates the member, and clears a verdict
	KindLeave          Kind = 8  // Name is the group, Member.ID; Result.Count is 1 if it was a member; an entry whose tag made the member stays
	KindHealth         Kind = 9  // Verdicts; Result.Count is how many changed something
	KindPutNode        Kind = 10 // Node, without Removed
	KindRemoveNode     Kind = 11 // Node.ID: from now on a node with this id is refused
	KindNoop           Kind = 12 // changes nothing
	KindSubscribe      Kind = 13 // Subscriber without Previous, Assigned and Modified: makes the subscriber or adds its patterns, replaces all else; Result.Count is how many patterns were new
	KindUnsubscribe    Kind = 14 // Name is a subscriber's URI, Names are patterns, none means all; IfModified; Result.Count is how many patterns were removed, the subscriber goes with its last
	KindAssign         Kind = 15 // Assignments; Result.Count is how many changed something
)

// reservedName belongs to the name server itself: every node makes up its own entry of that name, so it is never stored.
const reservedName = "Pyro.NameServer"

// groupTag begins a tag that makes its entry a member of a group; the rest is the group's name.
const groupTag = "group:"

// Command is one change of the state.  Exactly one entry of the log holds one or more of them.
type Command struct {
	Kind Kind

	// Session and Sequence name the command: a command of the same session and sequence number runs once, and its repetitions
	// get the first one's result, its revision too.  An empty session runs every time.  Floor tells that all sequence numbers
	// below it are answered and can be forgotten: commands below the highest floor told do not run ([Forgotten]).
	//
	// A session ends after an hour without a command, by Time, and the least recently used ones end when there are more than 100,000 or
	// when they have more than a million results to remember.  A session remembers 1,024 results: beyond that the floor rises by itself,
	// so a client must not have more commands than that under way.
	Session  string
	Sequence uint64
	Floor    uint64

	Time   int64  // nanoseconds since 1970, stamped by the leader; one before the time of an earlier command counts as that time
	Actor  string // who asked: an address or a principal
	Reason string

	Name  string
	Names []string
	URI   string

	// Tags are in any order; nil clears them.  A tag "group:NAME" makes the entry a member of the group NAME, with the entry's name as
	// its id, until the entry loses the tag or goes (KindLeave takes out the member alone).  KindRegister joins all groups of
	// its tags, which clears verdicts; KindSetTags joins those of new tags only, since it is no sign of life of the server.
	//
	// A KindRegister that has its own Name in such a tag is a server that registers a group's name: no entry is made, but it
	// joins all groups of its tags with its URI as id, and its other tags are added to those of the group Name.  A group has no group tags.
	//
	// A group cannot have the name of an entry: joining it, by tag too, is refused with [AlreadyRegistered].
	Tags []string

	Safe      bool // refuse to overwrite; for a server that registers a group's name the group is not in the way
	Member    Member
	Verdicts  []Verdict
	Node      Node
	ClusterID string

	Subscriber  Subscriber
	Assignments []Assignment
	IfModified  uint64 // if not 0, KindUnsubscribe does nothing unless the subscriber has this Modified
}

// Code is the outcome of a command as the state machine sees it.
type Code uint8

// The codes.  A command with a code other than OK changed nothing, but has a revision, unless it is forgotten.
const (
	OK                Code = 0
	AlreadyRegistered Code = 1 // KindRegister with Safe and the name exists; KindRegister, KindSetTags or KindJoin with a group that is an entry; the name server's own name
	UnknownName       Code = 2 // KindSetTags of a name that is not there
	NodeRemoved       Code = 3 // KindPutNode of a node that was removed
	Forgotten         Code = 4 // did not run now: its sequence number is below the session's floor, so its result was given before, and is not known any more
)

// Result is the answer to a command.
type Result struct {
	Code     Code
	Count    int
	Revision uint64 // of the command; 0 if it was forgotten
	Text     string // KindInit: the cluster id that stands
}
