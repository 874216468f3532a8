package k8s

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// image is what "make image" writes.
const image = "localhost/pyro-cluster:devel"

// Ports as the program has them by default.
const pyroPort, raftPort, httpPort = 9090, 9092, 9093

// problems collects what breaks a rule.
type problems []string

func (p *problems) require(holds bool, format string, args ...any) {
	if !holds {
		*p = append(*p, fmt.Sprintf(format, args...))
	}
}

// check returns all that breaks a rule in an install.
func check(m *manifests) problems {
	p := &problems{}
	for _, s := range m.services {
		checkService(p, m, s)
	}
	for _, w := range m.workloads() {
		checkPods(p, w)
		checkContainer(p, w)
		checkVariables(p, w)
	}
	for _, s := range m.statefulSets {
		w := workload{"StatefulSet", s.Name, s.Spec.Selector, &s.Spec.Template}
		checkProbes(p, w)
		checkNodes(p, m, s)
		checkStorage(p, s)
		checkTLS(p, s)
		checkProtection(p, m, w)
		checkGrace(p, w, "../../cmd/pyro-cluster/node.go", "drainTimeout", "handOverTimeout")
		p.require(preStop(w) > 0, "%s: no preStop: clients come while nobody listens", w)
	}
	for _, d := range m.deployments {
		w := workload{"Deployment", d.Name, d.Spec.Selector, &d.Spec.Template}
		checkProbes(p, w)
		checkGrace(p, w, "../../loadtest/servant/servant.go", "goodbyeTimeout")
		checkServers(p, m, d)
	}
	return *p
}

// spec: T4
func TestRules(t *testing.T) {
	t.Parallel()
	for install := range installs {
		t.Run(install, func(t *testing.T) {
			t.Parallel()
			m := load(t, install)
			if len(m.statefulSets) != 1 || len(m.services) != 2 {
				t.Errorf("got %d StatefulSets, %d Services; want 1, 2", len(m.statefulSets), len(m.services))
			}
			for _, problem := range check(m) {
				t.Error(problem)
			}
		})
	}
}

// checkService: names that do not break Pyro, and ports that lead somewhere.
func checkService(p *problems, m *manifests, s *corev1.Service) {
	p.require(!strings.HasPrefix(s.Name, "pyro"), "Service %s: its variables PYRO_... end stock Pyro5 at import", s.Name)
	pods := 0
	for _, w := range m.workloads() {
		if !selects(&metav1.LabelSelector{MatchLabels: s.Spec.Selector}, w.template.Labels) {
			continue
		}
		pods++
		for _, port := range s.Spec.Ports {
			target := containerPort(w.container(), port.TargetPort)
			p.require(target == port.Port, "Service %s: port %d leads to %d of %s", s.Name, port.Port, target, w)
		}
	}
	p.require(pods == 1 && len(s.Spec.Selector) > 0, "Service %s selects %d workloads, want 1", s.Name, pods)
}

func selects(s *metav1.LabelSelector, l map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(l))
}

// containerPort resolves a port by name or number; 0 if the container does not have it.
func containerPort(c *corev1.Container, port intstr.IntOrString) int32 {
	for _, has := range c.Ports {
		if port.Type == intstr.String && has.Name == port.StrVal || port.Type == intstr.Int && has.ContainerPort == port.IntVal {
			return has.ContainerPort
		}
	}
	return 0
}

func is[T comparable](pointer *T, want T) bool { return pointer != nil && *pointer == want }

// checkPods: what Pod Security's level "restricted" asks of pods, and what keeps Kubernetes out of them.
func checkPods(p *problems, w workload) {
	spec := &w.template.Spec
	p.require(w.selector == nil || selects(w.selector, w.template.Labels), "%s does not select its own pods", w)
	p.require(is(spec.EnableServiceLinks, false), "%s: enableServiceLinks is not false", w)
	p.require(is(spec.AutomountServiceAccountToken, false), "%s: automountServiceAccountToken is not false", w)
	p.require(!spec.HostNetwork && !spec.HostPID && !spec.HostIPC, "%s shares namespaces of its machine", w)
	p.require(len(spec.Containers) == 1 && len(spec.InitContainers) == 0, "%s: want one container", w)
	for _, v := range spec.Volumes {
		p.require(v.Secret != nil || v.ConfigMap != nil || v.EmptyDir != nil, "%s: volume %s is of a kind that was not thought of", w, v.Name)
	}
	for _, c := range spec.TopologySpreadConstraints {
		p.require(selects(c.LabelSelector, w.template.Labels), "%s: the spread over %s does not select its own pods", w, c.TopologyKey)
	}
	s := spec.SecurityContext
	if p.require(s != nil, "%s: no securityContext of the pod", w); s == nil {
		return
	}
	p.require(is(s.RunAsNonRoot, true) && s.RunAsUser != nil && *s.RunAsUser > 0, "%s may run as root", w)
	p.require(s.SeccompProfile != nil && s.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "%s: seccompProfile is not RuntimeDefault", w)
}

func checkContainer(p *problems, w workload) {
	c := w.container()
	p.require(c.Image == image, "%s: image is %s, want %s, which make image writes", w, c.Image, image)
	p.require(c.ImagePullPolicy == corev1.PullIfNotPresent, "%s: imagePullPolicy is %q: an image that was loaded is pulled", w, c.ImagePullPolicy)
	for _, port := range c.Ports {
		p.require(port.HostPort == 0, "%s: port %d is one of its machine", w, port.ContainerPort)
	}
	requests, limits := c.Resources.Requests, c.Resources.Limits
	p.require(!requests.Cpu().IsZero() && !requests.Memory().IsZero() && !limits.Memory().IsZero() && requests.Memory().Cmp(*limits.Memory()) <= 0,
		"%s: want requests of CPU and memory, and a limit of memory", w)
	p.require(limits.Cpu().IsZero(), "%s: a limit of CPU makes heartbeats late", w)
	s := c.SecurityContext
	if p.require(s != nil, "%s: no securityContext of the container", w); s == nil {
		return
	}
	p.require(is(s.AllowPrivilegeEscalation, false), "%s: allowPrivilegeEscalation is not false", w)
	p.require(is(s.ReadOnlyRootFilesystem, true), "%s: readOnlyRootFilesystem is not true", w)
	p.require(s.Privileged == nil && s.RunAsUser == nil && s.RunAsNonRoot == nil && s.SeccompProfile == nil, "%s: the container overrides what the pod says", w)
	p.require(s.Capabilities != nil && slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(s.Capabilities.Add) == 0,
		"%s: capabilities are not all dropped", w)
}

var variable = regexp.MustCompile(`\$\(([^)]*)\)`)

// checkVariables: what arguments and variables refer to exists, and comes before.  GOMEMLIMIT follows the limit.
func checkVariables(p *problems, w workload) {
	c := w.container()
	known := map[string]corev1.EnvVar{}
	expand := func(what, text string) {
		for _, name := range variable.FindAllStringSubmatch(text, -1) {
			_, is := known[name[1]]
			p.require(is, "%s: %s has $(%s), which is no variable before it", w, what, name[1])
		}
	}
	for _, v := range c.Env {
		expand(v.Name, v.Value)
		known[v.Name] = v
	}
	for _, a := range c.Args {
		expand("argument "+a, a)
	}
	limit, rest, _ := strings.Cut(strings.TrimPrefix(known["GOMEMLIMIT"].Value, "$("), ")")
	source := known[limit].ValueFrom
	p.require(rest == "000000" && source != nil && source.ResourceFieldRef != nil && source.ResourceFieldRef.Resource == "limits.memory" &&
		source.ResourceFieldRef.Divisor.String() == "1Mi", "%s: GOMEMLIMIT is not made of the limit of memory", w)
}

// checkProbes: a liveness probe that asked for readiness would restart nodes that lost their majority.
func checkProbes(p *problems, w workload) {
	c := w.container()
	for _, probe := range []struct {
		kind, path string
		probe      *corev1.Probe
	}{{"startup", "/livez", c.StartupProbe}, {"readiness", "/readyz", c.ReadinessProbe}, {"liveness", "/livez", c.LivenessProbe}} {
		if probe.probe == nil || probe.probe.HTTPGet == nil {
			p.require(false, "%s: no %s probe by HTTP", w, probe.kind)
			continue
		}
		get := probe.probe.HTTPGet
		p.require(get.Path == probe.path, "%s: the %s probe asks %s, want %s", w, probe.kind, get.Path, probe.path)
		p.require(containerPort(c, get.Port) == httpPort, "%s: the %s probe asks port %s, want that of HTTP", w, probe.kind, get.Port.String())
	}
	if all := w.template.Annotations; all["prometheus.io/scrape"] != "" {
		p.require(all["prometheus.io/scrape"] == "true" && all["prometheus.io/port"] == strconv.Itoa(httpPort) && all["prometheus.io/path"] == "/metrics",
			"%s: the annotations for Prometheus are %v", w, all)
	}
}

// names returns the host names of the nodes, as pods of the same namespace write them.
func names(s *appsv1.StatefulSet) []string {
	var all []string
	for i := range *s.Spec.Replicas {
		all = append(all, fmt.Sprintf("%s-%d.%s", s.Name, i, s.Spec.ServiceName))
	}
	return all
}

// checkNodes: as many replicas as are expected, who look for each other under the names that they advertise and that DNS has.
func checkNodes(p *problems, m *manifests, s *appsv1.StatefulSet) {
	c := &s.Spec.Template.Spec.Containers[0]
	given := flags(c)
	p.require(s.Spec.PodManagementPolicy == appsv1.ParallelPodManagement, "StatefulSet %s: nodes one after the other wait for each other for ever", s.Name)
	p.require(given["expect"] == strconv.Itoa(int(*s.Spec.Replicas)), "StatefulSet %s: %d replicas and --expect=%s", s.Name, *s.Spec.Replicas, given["expect"])
	const domain = ".$(POD_NAMESPACE).svc"
	want := fmt.Sprintf("$(POD_NAME).%s%s", s.Spec.ServiceName, domain)
	p.require(given["advertise"] == want, "StatefulSet %s: --advertise=%s, want %s", s.Name, given["advertise"], want)
	var peers []string
	for _, name := range names(s) {
		peers = append(peers, fmt.Sprintf("%s%s:%d", name, domain, raftPort))
	}
	if len(peers) == 1 {
		peers = []string{""} // it looks for nobody
	}
	p.require(given["join"] == strings.Join(peers, ","), "StatefulSet %s: --join=%s, want %s", s.Name, given["join"], strings.Join(peers, ","))
	for name, port := range map[string]int32{"pyro": pyroPort, "raft": raftPort, "http": httpPort} {
		p.require(containerPort(c, intstr.FromString(name)) == port, "StatefulSet %s: port %s is not %d", s.Name, name, port)
	}
	i := slices.IndexFunc(m.services, func(v *corev1.Service) bool { return v.Name == s.Spec.ServiceName })
	if p.require(i >= 0, "StatefulSet %s: no Service %s", s.Name, s.Spec.ServiceName); i >= 0 {
		v := m.services[i]
		p.require(v.Spec.ClusterIP == corev1.ClusterIPNone && v.Spec.PublishNotReadyAddresses && selects(&metav1.LabelSelector{MatchLabels: v.Spec.Selector}, s.Spec.Template.Labels),
			"Service %s does not give every node a name before it is ready", v.Name)
	}
	for _, other := range m.services {
		p.require(other.Name == s.Spec.ServiceName || !other.Spec.PublishNotReadyAddresses, "Service %s sends clients to nodes that are not ready", other.Name)
	}
}

// checkStorage: the data is on a volume of the node's own, which it may write to and nothing deletes.
func checkStorage(p *problems, s *appsv1.StatefulSet) {
	dir := flags(&s.Spec.Template.Spec.Containers[0])["data-dir"]
	var mount corev1.VolumeMount
	for _, v := range s.Spec.Template.Spec.Containers[0].VolumeMounts {
		if strings.HasPrefix(dir, v.MountPath+"/") {
			mount = v
		}
	}
	p.require(mount.Name != "" && !mount.ReadOnly, "StatefulSet %s: --data-dir=%s is in no volume that can be written to, or is the volume itself", s.Name, dir)
	claimed := slices.ContainsFunc(s.Spec.VolumeClaimTemplates, func(v corev1.PersistentVolumeClaim) bool { return v.Name == mount.Name })
	p.require(claimed, "StatefulSet %s: the volume of --data-dir is not one of each pod", s.Name)
	pod := s.Spec.Template.Spec.SecurityContext
	p.require(pod != nil && pod.FSGroup != nil, "StatefulSet %s: without fsGroup it may not write to its volume", s.Name)
	keep := s.Spec.PersistentVolumeClaimRetentionPolicy
	p.require(keep != nil && keep.WhenDeleted == appsv1.RetainPersistentVolumeClaimRetentionPolicyType && keep.WhenScaled == keep.WhenDeleted,
		"StatefulSet %s: volumes are deleted", s.Name)
}

// checkTLS: TLS with files that are there, or plain TCP because somebody said so.
func checkTLS(p *problems, s *appsv1.StatefulSet) {
	c := &s.Spec.Template.Spec.Containers[0]
	given := flags(c)
	files := 0
	for _, flag := range []string{"node-cert", "node-key", "node-ca"} {
		file, is := given[flag]
		if !is {
			continue
		}
		files++
		mounted := slices.ContainsFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool { return path.Dir(file) == v.MountPath && v.ReadOnly })
		p.require(mounted, "StatefulSet %s: --%s=%s is in no volume", s.Name, flag, file)
	}
	_, insecure := given["insecure"]
	p.require(files == 3 && !insecure || files == 0 && insecure, "StatefulSet %s: want --insecure or all files for TLS, got %v", s.Name, given)
	for _, v := range s.Spec.Template.Spec.Volumes {
		p.require(v.Secret == nil || is(v.Secret.DefaultMode, 0o440), "StatefulSet %s: others may read Secret %s", s.Name, v.Name)
	}
}

// checkProtection: a majority stays, whatever is done to machines, and strangers stay away from the port between the nodes.
func checkProtection(p *problems, m *manifests, w workload) {
	budgets := 0
	for _, b := range m.budgets {
		if selects(b.Spec.Selector, w.template.Labels) {
			budgets++
			p.require(b.Spec.MaxUnavailable != nil && b.Spec.MaxUnavailable.String() == "1" && b.Spec.MinAvailable == nil, "%s: the budget is not one at a time", w)
		}
	}
	p.require(budgets == 1, "%s: %d budgets, want 1", w, budgets)
	hard := slices.ContainsFunc(w.template.Spec.TopologySpreadConstraints, func(c corev1.TopologySpreadConstraint) bool {
		return c.TopologyKey == corev1.LabelHostname && c.MaxSkew == 1 && c.WhenUnsatisfiable == corev1.DoNotSchedule
	})
	p.require(hard, "%s: two nodes may share a machine", w)
	for _, policy := range m.policies {
		p.require(selects(&policy.Spec.PodSelector, w.template.Labels), "NetworkPolicy %s protects nobody", policy.Name)
		for _, rule := range policy.Spec.Ingress {
			for _, port := range rule.Ports {
				number := containerPort(w.container(), *port.Port)
				p.require(number != 0, "NetworkPolicy %s: port %s does not exist", policy.Name, port.Port.String())
				p.require(number != raftPort || len(rule.From) == 1 && selects(rule.From[0].PodSelector, w.template.Labels) && rule.From[0].NamespaceSelector == nil,
					"NetworkPolicy %s lets strangers to the port between the nodes", policy.Name)
			}
		}
	}
	p.require(len(m.policies) == 1, "%d NetworkPolicies, want 1", len(m.policies))
}

// preStop is how long a pod waits before it is told to end.
func preStop(w workload) time.Duration {
	if l := w.container().Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
		return time.Duration(l.PreStop.Sleep.Seconds) * time.Second
	}
	return 0
}

// graceMargin is for what takes no time unless the machine is busy: closing files, saying so.
const graceMargin = 5 * time.Second

// checkGrace: nobody is killed who ends in order.  What that takes stands in constants of a source file.
func checkGrace(p *problems, w workload, source string, constants ...string) {
	text, err := os.ReadFile(source)
	p.require(err == nil, "%v", err)
	need := preStop(w) + graceMargin
	for _, name := range constants {
		m := regexp.MustCompile(`(?m)\b` + name + ` += (\d+) \* time\.Second\b`).FindSubmatch(text)
		if p.require(m != nil, "%s has no %s in seconds", source, name); m != nil {
			seconds, _ := strconv.Atoi(string(m[1]))
			need += time.Duration(seconds) * time.Second
		}
	}
	grace := time.Duration(*w.template.Spec.TerminationGracePeriodSeconds) * time.Second
	p.require(grace >= need, "%s: %v of grace, want %v or more", w, grace, need)
}

// checkServers: object servers know all nodes, and an update takes none away before there is another.
func checkServers(p *problems, m *manifests, d *appsv1.Deployment) {
	rolling := d.Spec.Strategy.RollingUpdate
	p.require(rolling != nil && rolling.MaxUnavailable != nil && rolling.MaxUnavailable.String() == "0" && rolling.MaxSurge != nil && rolling.MaxSurge.String() == "1",
		"Deployment %s: an update takes servers away before there are others", d.Name)
	c := &d.Spec.Template.Spec.Containers[0]
	given := flags(c)
	p.require(given["host"] == "$(POD_IP)", "Deployment %s: --host=%s, want $(POD_IP), which callers can reach", d.Name, given["host"])
	p.require(given["port"] == fmt.Sprint(containerPort(c, intstr.FromString("pyro"))), "Deployment %s: --port=%s is not the port pyro", d.Name, given["port"])
	p.require(given["http-port"] == fmt.Sprint(containerPort(c, intstr.FromString("http"))), "Deployment %s: --http-port=%s is not the port http", d.Name, given["http-port"])
	checkTarget(p, m, "Deployment "+d.Name, given["ns"])
	for _, j := range m.jobs {
		load := &j.Spec.Template.Spec.Containers[0]
		checkTarget(p, m, "Job "+j.Name, flags(load)["ns"])
		p.require(slices.Contains(load.Args, "PYRONAME:"+given["group"]), "Job %s does not call the group %s", j.Name, given["group"])
		p.require(j.Spec.ActiveDeadlineSeconds != nil && is(j.Spec.BackoffLimit, 0), "Job %s is not bounded", j.Name)
	}
}

func checkTarget(p *problems, m *manifests, who, ns string) {
	var want []string
	for _, name := range names(m.statefulSets[0]) {
		want = append(want, fmt.Sprintf("%s:%d", name, pyroPort))
	}
	p.require(ns == strings.Join(want, ","), "%s: --ns=%s, want %s", who, ns, strings.Join(want, ","))
}
