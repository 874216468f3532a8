package gen

import (
	"slices"
	"strings"
	"unicode"
)

// snakeCase turns a Go name into a Python one, as core does for methods and fields: MaxSize, URLPath, HTTP2 into max_size, url_path, http2.
func snakeCase(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if i > 0 && unicode.IsUpper(c) && r[i-1] != '_' && (!unicode.IsUpper(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// pythonKeywords cannot be names (Python's reference, "Keywords").
var pythonKeywords = []string{
	"False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except",
	"finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try",
	"while", "with", "yield",
}

// isPythonName reports whether Python takes s as an identifier.
func isPythonName(s string) bool {
	for i, c := range s {
		if c != '_' && !unicode.IsLetter(c) && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return s != "" && !slices.Contains(pythonKeywords, s)
}

// keywordName is the name under which Python gives a parameter; empty if it has none in Go.
func keywordName(goName string) string {
	if goName == "" || goName == "_" {
		return ""
	}
	name := snakeCase(goName)
	if slices.Contains(pythonKeywords, name) || name == "self" {
		return name + "_" // as in Python (PEP 8)
	}
	return name
}

// names gives out identifiers of one scope, each once.
type names map[string]bool

// take returns name, with as many underscores behind it as make it new.
func (n names) take(name string) string {
	for n[name] {
		name += "_"
	}
	n[name] = true
	return name
}
