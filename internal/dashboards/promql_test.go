package dashboards

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// checkExpr returns what is wrong with the names in an expression of PromQL.  It is no parser: it finds names of metrics, labels and
// functions that do not exist, which is what goes wrong when the code changes, and brackets that do not match.
func checkExpr(all map[string]*metric, expr string) (problems []string) {
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if err := checkBrackets(expr); err != "" {
		complain("%s", err)
	}
	known := map[string]bool{"job": true, "instance": true}
	expr = selector.ReplaceAllStringFunc(expr, func(s string) string {
		parts := selector.FindStringSubmatch(s)
		m := find(all, parts[1])
		if m == nil {
			complain("no metric %s", parts[1])
			return ""
		}
		checkMatchers(m, parts[1], parts[2], complain)
		return parts[1] // the rest is checked below
	})
	expr = duration.ReplaceAllString(expr, "")
	for _, word := range identifier.FindAllString(expr, -1) {
		if m := find(all, word); m != nil {
			for _, label := range m.labelNames() {
				known[label] = true
			}
			if strings.HasSuffix(word, "_bucket") {
				known["le"] = true
			}
		}
	}
	expr = grouping.ReplaceAllStringFunc(expr, func(s string) string {
		parts := grouping.FindStringSubmatch(s)
		for _, label := range strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' || r == ' ' }) {
			if !known[label] {
				complain("%s (%s): no metric here has the label %s", parts[1], parts[2], label)
			}
		}
		return " "
	})
	for _, at := range identifier.FindAllStringIndex(expr, -1) {
		word, rest := expr[at[0]:at[1]], strings.TrimSpace(expr[at[1]:])
		switch {
		case strings.HasPrefix(rest, "("):
			if !functions[word] {
				complain("no function %s", word)
			}
		case slices.Contains([]string{"and", "or", "unless", "bool"}, word):
		case find(all, word) == nil:
			complain("no metric %s", word)
		}
	}
	return problems
}

var (
	// A name with matchers, of which the values are strings without braces.
	selector   = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*$`)
	duration   = regexp.MustCompile(`\[[^\]]*\]`)
	grouping   = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	identifier = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*`)
	functions  = map[string]bool{"sum": true, "max": true, "min": true, "avg": true, "count": true, "rate": true, "increase": true,
		"histogram_quantile": true, "time": true, "scalar": true, "floor": true}
)

// find returns the metric that a name in an expression stands for; "up" is Prometheus' own.
func find(all map[string]*metric, name string) *metric {
	if name == "up" {
		return &metric{name: "up", kind: "gauge"}
	}
	if m := all[name]; m != nil && m.kind != "histogram" {
		return m
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && all[base] != nil && all[base].kind == "histogram" {
			return all[base]
		}
	}
	return nil
}

func checkMatchers(m *metric, name, matchers string, complain func(string, ...any)) {
	for one := range strings.SplitSeq(matchers, ",") {
		parts := matcher.FindStringSubmatch(one)
		if parts == nil {
			complain("%s: matcher %q", name, one)
			continue
		}
		label, value := parts[1], parts[3]
		values := m.labels[label]
		switch {
		case label == "job" || label == "instance" || strings.HasPrefix(value, "$") && values != nil:
		case values == nil:
			complain("%s has no label %s, only %v", name, label, m.labelNames())
		case closed[label]:
			for v := range strings.SplitSeq(value, "|") {
				if !values[v] {
					complain("%s: the label %s is never %q", name, label, v)
				}
			}
		}
	}
}

func checkBrackets(expr string) string {
	var open []rune
	closes := map[rune]rune{')': '(', ']': '[', '}': '{'}
	for _, r := range expr {
		switch r {
		case '(', '[', '{':
			open = append(open, r)
		case ')', ']', '}':
			if len(open) == 0 || open[len(open)-1] != closes[r] {
				return fmt.Sprintf("%c without its %c", r, closes[r])
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		return fmt.Sprintf("%c is not closed", open[len(open)-1])
	}
	return ""
}

func TestCheckExpr(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, expr, want string }{
		{"good", `sum by (instance, method) (rate(pyro_server_calls_total{object="x", outcome!="ok"}[5m])) > 0.5 and on (job) up == 1`, ""},
		{"histogram", `histogram_quantile(0.99, sum by (le) (rate(pyro_raft_log_write_duration_seconds_bucket[$__rate_interval])))`, ""},
		{"metric", `rate(pyro_server_call_total[5m])`, "no metric pyro_server_call_total"},
		{"metric with matchers", `pyro_raft_states{state="leader"}`, "no metric pyro_raft_states"},
		{"histogram without suffix", `pyro_raft_log_write_duration_seconds`, "no metric pyro_raft_log_write_duration_seconds"},
		{"suffix of no histogram", `pyro_raft_term_sum`, "no metric pyro_raft_term_sum"},
		{"label", `pyro_raft_term{state="leader"}`, "pyro_raft_term has no label state, only []"},
		{"value", `pyro_raft_state{state="boss"}`, `pyro_raft_state: the label state is never "boss"`},
		{"one of two values", `pyro_server_calls_total{outcome=~"ok|fine"}`, `pyro_server_calls_total: the label outcome is never "fine"`},
		{"label of by", `sum by (state) (pyro_raft_term)`, "by (state): no metric here has the label state"},
		{"le of no histogram", `sum by (le) (pyro_raft_term)`, "by (le): no metric here has the label le"},
		{"function", `rates(pyro_server_connections_opened_total[5m])`, "no function rates"},
		{"brackets", `sum(pyro_raft_term))`, ") without its ("},
		{"open", `sum((pyro_raft_term)`, "( is not closed"},
		{"matcher", `pyro_raft_state{state=leader}`, `pyro_raft_state: matcher "state=leader"`},
	}
	all := mustCatalog(t)
	for _, tt := range tests {
		if got := strings.Join(checkExpr(all, tt.expr), "; "); got != tt.want {
			t.Errorf("%s: %s: got %q, want %q", tt.name, tt.expr, got, tt.want)
		}
	}
}
