package events

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pyro-cluster/pyro-cluster/internal/pyre"
)

// A topic is any text without control characters.  Two topics are the same if strings.EqualFold says so.  For wildcards it is taken apart
// at the dots into tokens, each of which may be empty.
//
// Topics that begin with "$" are the cluster's: nobody else publishes to them, and who wants to hear them says so: wildcards match them
// only if the pattern begins with "$" too, and regular expressions never do.
const (
	separator     = '.'
	anyToken      = "*" // in a pattern: exactly one token
	restTokens    = ">" // in a pattern, at its end: one token or more
	clusterPrefix = "$"
)

// maxPatternBytes bounds what [Pattern.String] returns.
const maxPatternBytes = len(topicKind) + maxTopicBytes

// maxInstructions bounds the compiled form of an expression, and so the time of a match, which is in proportion to that and to the topic:
// about a millisecond at worst.
const maxInstructions = 500

// CheckTopic returns an error that says why nobody may publish to topic, or nil.  A topic is 1 to 255 bytes of UTF-8, as written and in
// lower case, without control characters; none of its tokens is a wildcard, and it does not begin with "$".
func CheckTopic(topic string) error {
	if strings.HasPrefix(topic, clusterPrefix) {
		return fmt.Errorf("topic %s: topics that begin with %q are the cluster's own: choose another name", quoted(topic), clusterPrefix)
	}
	return checkAnyTopic(topic)
}

// checkAnyTopic is CheckTopic for a topic that may be the cluster's.
func checkAnyTopic(topic string) error {
	if isPlain(topic) {
		return nil
	}
	if err := checkText("topic", topic); err != nil {
		return err
	}
	for token := range strings.SplitSeq(topic, string(separator)) {
		if isWildcard(token) {
			return fmt.Errorf("topic %s: %q is a wildcard, for subscriptions only: publish to a topic without it", quoted(topic), token)
		}
	}
	return nil
}

// isPlain reports whether nothing about topic needs a closer look: most topics are letters, digits and dots of ASCII.
func isPlain(topic string) bool {
	if len(topic) == 0 || len(topic) > maxTopicBytes {
		return false
	}
	for i := range len(topic) {
		if c := topic[i]; c < ' ' || c >= 0x7f || c == anyToken[0] || c == restTokens[0] {
			return false
		}
	}
	return true
}

// checkText checks what topics and patterns have in common; what says which of them it is.
func checkText(what, text string) error {
	switch {
	case text == "":
		return fmt.Errorf("%s %q: want 1 to %d bytes", what, text, maxTopicBytes)
	case len(text) > maxTopicBytes:
		return fmt.Errorf("%s %s: %d bytes, want at most %d", what, quoted(text), len(text), maxTopicBytes)
	case !utf8.ValidString(text):
		return fmt.Errorf("%s %s: not valid UTF-8", what, quoted(text))
	}
	for i, r := range text {
		if unicode.IsControl(r) {
			return fmt.Errorf("%s %s: control character %q at byte %d: leave it out", what, quoted(text), r, i)
		}
	}
	if n := len(foldTopic(text)); n > maxTopicBytes {
		return fmt.Errorf("%s %s: %d bytes in lower case, want at most %d", what, quoted(text), n, maxTopicBytes)
	}
	return nil
}

// quoted writes the beginning of a text in one line.
func quoted(text string) string {
	const most = 60
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%.*q…", most, text)
}

func isWildcard(token string) bool { return token == anyToken || token == restTokens }

func isClusterTopic(topic string) bool { return strings.HasPrefix(topic, clusterPrefix) }

// foldTopic returns the form in which topics are compared: two have the same if and only if strings.EqualFold says that they are equal.
// It may be longer than the topic, by a half.  There is no allocation when topic has this form already.
func foldTopic(topic string) string {
	for i := range len(topic) {
		if c := topic[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return strings.Map(foldRune, topic)
		}
	}
	return topic
}

// foldRune returns one rune for all that differ by case only.  By way of the upper case also those are one that have the same there, as
// the two small sigmas.  The dotted I and the dotless i have no counterpart in Unicode's folding, but change case to a plain one.
func foldRune(r rune) rune {
	if r == 'İ' || r == 'ı' {
		return r
	}
	return unicode.ToLower(unicode.ToUpper(r))
}

// The kinds of patterns, as [Pattern.String] begins.
const (
	topicKind      = "t:"
	wildcardKind   = "w:"
	expressionKind = "r:"
)

// Pattern is what a subscription is for: a topic, topics by wildcards, or by a regular expression.  The zero value matches nothing.
// Patterns are compared by their String.
type Pattern struct {
	_    [0]func() // one expression may be compiled twice, so == would lie
	text string    // as String returns it
	expr *pyre.Pattern
}

// ParsePattern returns the pattern for a topic, or for topics by wildcards: in "prices.*.eur" the token "*" is exactly one token, in
// "prices.>" the last token ">" is one or more.  The case of letters makes no difference.
//
// To match topics of the cluster the pattern must begin with "$".  Other rules are those of [CheckTopic]; the error is one line.
func ParsePattern(s string) (Pattern, error) {
	if err := checkText("pattern", s); err != nil {
		return Pattern{}, err
	}
	kind := topicKind
	for rest, more := s, true; more; {
		var token string
		token, rest, more = cutToken(rest)
		if token == restTokens && more {
			return Pattern{}, fmt.Errorf("pattern %s: %q stands for all tokens that follow: put it at the end", quoted(s), restTokens)
		}
		if isWildcard(token) {
			kind = wildcardKind
		}
	}
	return Pattern{text: kind + foldTopic(s)}, nil
}

// cutToken returns the first token of a topic, and what is behind it if there is more.
func cutToken(s string) (token, rest string, more bool) {
	if i := strings.IndexByte(s, separator); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// ParseExpression returns the pattern for all topics that a regular expression of Python matches at their beginning, the case of letters
// ignored (Pyro3's subscribeMatch).  It matches the topics in lower case, which matters to a group that does not ignore case.  It never
// matches topics of the cluster.
//
// The error is one line.  It is also for what Python has and this does not, as look-around; for an expression of more than 255 bytes;
// and for one that takes too long because of its repetitions.
func ParseExpression(s string) (Pattern, error) {
	if len(s) > maxTopicBytes {
		return Pattern{}, fmt.Errorf("expression %s: %d bytes, want at most %d", quoted(s), len(s), maxTopicBytes)
	}
	expr, err := pyre.Options{IgnoreCase: true, MaxInstructions: maxInstructions}.Compile(s)
	if err != nil {
		return Pattern{}, fmt.Errorf("expression %s: %w", quoted(s), err)
	}
	return Pattern{text: expressionKind + s, expr: expr}, nil
}

// String returns the pattern with its kind: "t:news", "w:prices.*.eur", "r:^abc".  Patterns that are the same have the same String.  It has
// at most 257 bytes, and is empty for the zero value.
func (p Pattern) String() string { return p.text }

// errPattern is a text that no Pattern prints.
var errPattern = errors.New(`want "t:", "w:" or "r:" and a topic in lower case, one with wildcards, or an expression`)

// patternFromString is the inverse of [Pattern.String]; other texts are errors.
func patternFromString(s string) (Pattern, error) {
	if len(s) < len(topicKind) {
		return Pattern{}, fmt.Errorf("pattern %q: %w", s, errPattern)
	}
	parse := ParsePattern
	if s[:len(topicKind)] == expressionKind {
		parse = ParseExpression
	}
	p, err := parse(s[len(topicKind):])
	if err != nil {
		return Pattern{}, err
	}
	if p.text != s {
		return Pattern{}, fmt.Errorf("pattern %s: %w", quoted(s), errPattern)
	}
	return p, nil
}

// kind is one of topicKind, wildcardKind and expressionKind, or empty for the zero value.
func (p Pattern) kind() string { return p.text[:min(len(p.text), len(topicKind))] }

// body is the pattern without its kind.
func (p Pattern) body() string { return p.text[len(p.kind()):] }

// Match reports whether the pattern matches a topic, which must be folded.
func (p Pattern) Match(topic string) bool {
	switch p.kind() {
	case topicKind:
		return p.body() == topic
	case wildcardKind:
		return matchTokens(p.body(), topic)
	case expressionKind:
		return !isClusterTopic(topic) && p.expr.Match(topic)
	}
	return false
}

// matchTokens compares a pattern with wildcards, token by token.
func matchTokens(pattern, topic string) bool {
	if isClusterTopic(topic) && !isClusterTopic(pattern) {
		return false
	}
	for {
		want, pattern2, moreWant := cutToken(pattern)
		if want == restTokens {
			return true
		}
		token, topic2, moreTopic := cutToken(topic)
		if want != anyToken && want != token || moreWant != moreTopic {
			return false
		}
		if !moreWant {
			return true
		}
		pattern, topic = pattern2, topic2
	}
}
