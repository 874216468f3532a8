package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func podOn(name, node, ip string) pod {
	var p pod
	p.Meta.Name, p.Meta.UID, p.Spec.NodeName, p.Status.PodIP = name, "uid-"+name, node, ip
	p.Status.Conditions = []condition{{ready, "True"}}
	return p
}

func TestChosen(t *testing.T) {
	t.Parallel()
	all := (&story{}).steps()
	var keys []string
	for _, st := range all {
		if slices.Contains(keys, st.key) || st.name == "" || st.run == nil {
			t.Errorf("step %+v: want a key of its own, a name and something to do", st)
		}
		keys = append(keys, st.key)
	}
	if got, err := chosen(all, nil); err != nil || len(got) != len(all) {
		t.Errorf("without keys: %d steps, %v, want all", len(got), err)
	}
	got, err := chosen((&story{}).steps(), []string{"drain", "call"})
	if err != nil || len(got) != 2 || got[0].key != "call" || got[1].key != "drain" {
		t.Errorf("got %v, %v, want call, then drain", got, err)
	}
	if _, err := chosen(all, []string{"drains"}); err == nil || err.Error() != `-only has "drains": give some of `+strings.Join(keys, ",") {
		t.Errorf("got %v", err)
	}
}

func TestVictims(t *testing.T) {
	t.Parallel()
	pods := []pod{podOn("broker-0", "n1", ""), podOn("broker-1", "n2", ""), podOn("broker-2", "n3", ""), podOn("broker-3", "", "")}
	for _, test := range []struct {
		watch, leader string
		want          []string
	}{
		{"n1", "broker-0", []string{"n2", "n3"}},
		{"n1", "broker-2", []string{"n3", "n2"}},
		{"n4", "broker-1", []string{"n2", "n1", "n3"}},
	} {
		if got := victimsOf(pods, test.watch, test.leader); !slices.Equal(got, test.want) {
			t.Errorf("observer on %s, %s leads: got %v, want %v", test.watch, test.leader, got, test.want)
		}
	}
}

func TestUnsettled(t *testing.T) {
	t.Parallel()
	unready, ending := podOn("b", "n2", ""), podOn("c", "n3", "")
	unready.Status.Conditions = []condition{{"PodScheduled", "True"}, {ready, "False"}}
	ending.Meta.DeletionTimestamp = new(time.Time)
	for _, test := range []struct {
		name string
		pods []pod
		want string
	}{
		{"all there", []pod{podOn("a", "n1", ""), podOn("b", "n2", "")}, ""},
		{"too few", []pod{podOn("a", "n1", "")}, "1 pods, want 2"},
		{"too many", []pod{podOn("a", "n1", ""), podOn("b", "n1", ""), podOn("c", "n1", "")}, "3 pods, want 2"},
		{"not ready", []pod{podOn("a", "n1", ""), unready}, "b is not ready"},
		{"one too many, which is ending", []pod{podOn("a", "n1", ""), podOn("b", "n1", ""), ending}, "c is ending"},
	} {
		if got := unsettled(test.pods, 2); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestOtherIPs(t *testing.T) {
	t.Parallel()
	before := []pod{podOn("a", "n1", "10.0.0.1"), podOn("b", "n2", "10.0.0.2"), podOn("c", "n3", "10.0.0.3")}
	after := []pod{podOn("c", "n1", "10.0.0.3"), podOn("b", "n2", "10.0.0.1"), podOn("a", "n2", "10.0.0.4")}
	if got := otherIPs(before, after); got != 2 {
		t.Errorf("got %d, want 2: a and b", got)
	}
}

// TestRefused uses what kubectl 1.35 says.
func TestRefused(t *testing.T) {
	t.Parallel()
	const stderr = `error when evicting pods/"broker-2" -n "draft" (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget.
There are pending pods in node "n2" when an error occurred: [error when evicting pods/"broker-2" -n "draft": global timeout reached: 1s]
error when evicting pods/"broker-1" -n "draft": global timeout reached: 1s
`
	for pod, want := range map[string]bool{"broker-2": true, "broker-1": false, "broker": false} {
		if got := refusedFor(stderr, pod); got != want {
			t.Errorf("%s: got %v, want %v", pod, got, want)
		}
	}
}

func TestTakesPods(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`:                                                           true,
		`{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`:                                                        false,
		`{"spec":{"unschedulable":true},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`:                             false,
		`{"spec":{"taints":[{"effect":"NoSchedule"}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`:               false,
		`{"spec":{"taints":[{"effect":"PreferNoSchedule"}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`:         true,
		`{"status":{"conditions":[{"type":"MemoryPressure","status":"True"},{"type":"Ready","status":"False"}]}}`:                false,
		`{"spec":{"taints":[{"effect":"NoExecute"}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}, "metadata":{}}`: false,
	} {
		var n kubeNode
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			t.Fatal(err)
		}
		if got := n.takesPods(); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	nodes := make([]kubeNode, 3)
	for i, name := range []string{"n1", "n2", "n3"} {
		nodes[i].Meta.Name = name
	}
	if got := watchOf(nodes, []pod{podOn("dns", "n3", ""), podOn("dns2", "n2", "")}); got != "n2" {
		t.Errorf("got %s, want n2, which has DNS", got)
	}
	if got := watchOf(nodes, []pod{podOn("dns", "control-plane", "")}); got != "n1" {
		t.Errorf("got %s, want n1", got)
	}
}

func TestWorkload(t *testing.T) {
	t.Parallel()
	const text = `{"kind":"Deployment","metadata":{"name":"objects"},"spec":{"replicas":3,"selector":{"matchLabels":{"b":"2","a":"1"}},
		"template":{"spec":{"containers":[{"image":"x","args":["loadtest","serve","--group=works","--ns","a:1,b:1","--member"]}]}}}}`
	var w workload
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		t.Fatal(err)
	}
	if w.ref() != "deployment/objects" || w.selector() != "a=1,b=2" {
		t.Errorf("got %s, %s", w.ref(), w.selector())
	}
	for name, want := range map[string]string{"group": "works", "ns": "a:1,b:1", "member": "", "host": ""} {
		if got := w.flag(name); got != want {
			t.Errorf("--%s: got %q, want %q", name, got, want)
		}
	}
	if got := (workload{}).flag("x"); got != "" {
		t.Errorf("without containers: got %q", got)
	}
}

func TestWithImage(t *testing.T) {
	t.Parallel()
	const manifests = "      - image: localhost/a:1\n        name: image\n        image: b\nimages: no\n  imagePullPolicy: Never\n"
	const want = "      - image: \"r.example.org/$1:2\"\n        name: image\n        image: \"r.example.org/$1:2\"\nimages: no\n  imagePullPolicy: Never\n"
	if got := withImage(manifests, "r.example.org/$1:2"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestObserverManifest: it is YAML whatever is filled in, and fulfils Pod Security's level "restricted".
func TestObserverManifest(t *testing.T) {
	t.Parallel()
	text, err := observerValues{
		Name: observerName, Node: "n1", Image: "localhost/pyro-cluster:1", Group: "works", NS: "a:1,b:1", Work: "add=3,echo:1KiB=1", Rate: 200,
		Timeout: callTimeout, Control: controlAddress,
	}.manifest()
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Kind string
		Spec struct {
			EnableServiceLinks *bool             `yaml:"enableServiceLinks"`
			NodeSelector       map[string]string `yaml:"nodeSelector"`
			SecurityContext    struct {
				RunAsNonRoot bool `yaml:"runAsNonRoot"`
			} `yaml:"securityContext"`
			Containers []struct {
				Args            []string
				SecurityContext struct {
					AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
				} `yaml:"securityContext"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	c := p.Spec.Containers[0]
	if p.Kind != "Pod" || *p.Spec.EnableServiceLinks || p.Spec.NodeSelector["kubernetes.io/hostname"] != "n1" || !p.Spec.SecurityContext.RunAsNonRoot ||
		*c.SecurityContext.AllowPrivilegeEscalation {
		t.Errorf("got %+v of\n%s", p, text)
	}
	for _, want := range []string{"PYRONAME:works", "--ns=a:1,b:1", "--rate=200", "--timeout=5s", "--control=localhost:9094", "--work=add=3,echo:1KiB=1"} {
		if !slices.Contains(c.Args, want) {
			t.Errorf("no argument %q in %q", want, c.Args)
		}
	}
}

func TestReportIn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, log, want, err string }{
		{"behind progress", "steered by PYRO:x\n  1.0 of 10 s {\n{\n \"ok\": true\n}\npyro-cluster: loadtest run: x\n", "{\n \"ok\": true\n}", ""},
		{"alone", "{}", "{}", ""},
		{"none", "calling\n  1.0 of 10 s\n", "", "the load test ended without a report"},
		{"half of one", "calling\n{\n \"ok\": tr", "", "the load test's report: unexpected EOF"},
	} {
		got, err := reportIn(test.log)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if string(got) != test.want || text != test.err {
			t.Errorf("%s: got %q, %q, want %q, %q", test.name, got, text, test.want, test.err)
		}
	}
}

func TestKubectlError(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args         []string
		stderr, want string
	}{
		{[]string{"delete", "pod", "x", "--force"}, "Warning: y\nerror: no such pod\n\n", "kubectl delete pod x: no such pod"},
		{[]string{"get", "pods", "--output=json"}, "", "kubectl get pods: unexpected EOF"},
		{[]string{"exec", "observer", "--", "/pyro-cluster", "ns", "list", "--ns", "a"}, "pyro-cluster: ns list: no answer\ncommand terminated with exit code 3\n",
			"kubectl exec /pyro-cluster ns list: pyro-cluster: ns list: no answer"},
	} {
		err := &kubectlError{verbOf(test.args), test.stderr, os.ErrClosed}
		test.want = strings.Replace(test.want, "unexpected EOF", os.ErrClosed.Error(), 1)
		if got := err.Error(); got != test.want {
			t.Errorf("%q: got %q, want %q", test.args, got, test.want)
		}
	}
}
