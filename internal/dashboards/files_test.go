package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const deploy = "../../deploy"

// dashboard is the part of Grafana's format that is checked.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Definition string
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct{ RefID, Expr, LegendFormat string }
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{deploy}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	var d dashboard
	if err := json.Unmarshal(read(t, "grafana", "pyro-cluster.json"), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || d.SchemaVersion == 0 || len(d.Panels) == 0 {
		t.Fatalf("dashboard %q %q of schema %d with %d panels", d.UID, d.Title, d.SchemaVersion, len(d.Panels))
	}
	all := mustCatalog(t)
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		query := regexp.MustCompile(`^label_values\((.*), ([a-z]+)\)$`).FindStringSubmatch(v.Definition)
		if query == nil {
			continue // the data source
		}
		for _, problem := range checkExpr(all, fmt.Sprintf("max by (%s) (%s)", query[2], query[1])) {
			t.Errorf("variable %s: %s", v.Name, problem)
		}
	}
	ids, shown := map[int]bool{}, map[string]bool{}
	for i, p := range d.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: no title, or an id that another has", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, other := range d.Panels[:i] {
			if a, b := p.GridPos, other.GridPos; a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panel %q lies over %q", p.Title, other.Title)
			}
		}
		if p.Type != "row" && (len(p.Targets) == 0 || p.Description == "") {
			t.Errorf("panel %q: %d expressions, description %q", p.Title, len(p.Targets), p.Description)
		}
		for _, target := range p.Targets {
			for _, problem := range checkExpr(all, target.Expr) {
				t.Errorf("panel %q: %s: %s", p.Title, target.Expr, problem)
			}
			for _, v := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(target.Expr, -1) {
				if !variables[v[1]] {
					t.Errorf("panel %q: %s: no variable %s", p.Title, target.Expr, v[1])
				}
			}
			for _, word := range identifier.FindAllString(target.Expr, -1) {
				if m := find(all, word); m != nil {
					shown[m.name] = true
				}
			}
			checkLegend(t, all, p.Title, target.Expr, target.LegendFormat)
		}
	}
	// What is collected and shown nowhere is either missing here or not worth collecting.
	for name := range all {
		if strings.HasPrefix(name, "pyro_") && !shown[name] && !slices.Contains(notShown, name) {
			t.Errorf("%s is in no panel", name)
		}
	}
}

// notShown are metrics for which the dashboard has something better.
var notShown = []string{
	"pyro_raft_has_leader", "pyro_raft_log_write_errors_total", "pyro_raft_snapshot_errors_total", // in alerts
	"pyro_client_call_duration_seconds", "pyro_client_sent_bytes_total", "pyro_client_received_bytes_total", // calls to groups
	"pyro_client_connections_opened_total", "pyro_client_connections_closed_total",
}

// checkLegend looks for labels that the expression does not leave.
func checkLegend(t *testing.T, all map[string]*metric, title, expr, legend string) {
	t.Helper()
	for _, l := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(legend, -1) {
		left := false
		if groups := regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(expr, -1); groups != nil {
			left = slices.Contains(strings.Split(groups[0][1], ", "), l[1])
		} else if !strings.HasPrefix(expr, "sum(") && !strings.HasPrefix(expr, "max(") {
			left = l[1] == "instance"
			for _, word := range identifier.FindAllString(expr, -1) {
				if m := find(all, word); m != nil && m.labels[l[1]] != nil {
					left = true
				}
			}
		}
		if !left {
			t.Errorf("panel %q: %s leaves no label %s for the legend %q", title, expr, l[1], legend)
		}
	}
}

// rules are a file of rules as Prometheus reads it.
type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	var r rules
	strict(t, read(t, "prometheus", "alerts.yaml"), &r)
	all := mustCatalog(t)
	names := map[string]bool{}
	for _, g := range r.Groups {
		if g.Name == "" || names[g.Name] || len(g.Rules) == 0 {
			t.Errorf("group %q: no name of its own, or no rules", g.Name)
		}
		names[g.Name] = true
		for _, a := range g.Rules {
			if !regexp.MustCompile(`^Pyro[A-Za-z]+$`).MatchString(a.Alert) || names[a.Alert] {
				t.Errorf("alert %q: want a name of its own that begins with Pyro", a.Alert)
			}
			names[a.Alert] = true
			for _, problem := range checkExpr(all, a.Expr) {
				t.Errorf("%s: %s: %s", a.Alert, a.Expr, problem)
			}
			if d, err := time.ParseDuration(a.For); a.For != "" && (err != nil || d <= 0) {
				t.Errorf("%s: for %q: %v", a.Alert, a.For, err)
			}
			if s := a.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s: severity %q, want warning or critical", a.Alert, s)
			}
			if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
				t.Errorf("%s: annotations %v, want what it is and what to do", a.Alert, a.Annotations)
			}
			checkAnnotations(t, a.Alert, a.Expr, a.Annotations)
		}
	}
}

// checkAnnotations looks for labels that the alert does not have.
func checkAnnotations(t *testing.T, alert, expr string, annotations map[string]string) {
	t.Helper()
	for _, text := range annotations {
		for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
			left := true
			if by := regexp.MustCompile(`by \(([^)]*)\)`).FindStringSubmatch(expr); by != nil && !strings.Contains(expr, "group_right") {
				left = slices.Contains(strings.Split(by[1], ", "), l[1])
			}
			if !left {
				t.Errorf("%s: %s leaves no label %s for %q", alert, expr, l[1], text)
			}
		}
	}
}

func TestPrometheusConfiguration(t *testing.T) {
	t.Parallel()
	var config struct {
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName        string `yaml:"job_name"`
			ScrapeInterval string `yaml:"scrape_interval"`
			StaticConfigs  []struct {
				Targets []string
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	strict(t, read(t, "prometheus", "prometheus.yaml"), &config)
	for _, f := range config.RuleFiles {
		read(t, "prometheus", f)
	}
	// The alerts name the job.
	jobs := regexp.MustCompile(`job="([^"]*)"`).FindAllSubmatch(read(t, "prometheus", "alerts.yaml"), -1)
	if len(config.ScrapeConfigs) != 1 || len(jobs) == 0 {
		t.Fatalf("got %d jobs in the configuration, %d mentions in alerts", len(config.ScrapeConfigs), len(jobs))
	}
	for _, job := range jobs {
		if string(job[1]) != config.ScrapeConfigs[0].JobName {
			t.Errorf("an alert is about the job %q, the configuration has %q", job[1], config.ScrapeConfigs[0].JobName)
		}
	}
}

// strict decodes YAML in which every field is known.
func strict(t *testing.T, text []byte, v any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
}
