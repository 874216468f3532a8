package k8s

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// pod is a shortcut to what most rules are about: the pods of the nodes.
func (m *manifests) pod() *corev1.PodSpec { return &m.statefulSets[0].Spec.Template.Spec }

func (m *manifests) node() *corev1.Container { return &m.pod().Containers[0] }

// setArg replaces the argument that begins with --name=.
func setArg(c *corev1.Container, name, argument string) {
	for i, a := range c.Args {
		if a == "--"+name || strings.HasPrefix(a, "--"+name+"=") {
			c.Args[i] = argument
		}
	}
}

// TestRulesCanFail breaks each rule and wants to hear of it.
func TestRulesCanFail(t *testing.T) {
	t.Parallel()
	server := func(m *manifests) *corev1.Container { return &m.deployments[0].Spec.Template.Spec.Containers[0] }
	no, yes := false, true
	for _, row := range []struct {
		name, want string
		breaking   func(m *manifests)
	}{
		{"name of Pyro", "Service pyro-x: its variables", func(m *manifests) { m.services[0].Name = "pyro-x" }},
		{"Service without pods", "Service broker selects 0 workloads", func(m *manifests) { m.services[0].Spec.Selector["app.kubernetes.io/name"] = "brokr" }},
		{"Service for all", "Service broker selects 3 workloads", func(m *manifests) {
			m.services[0].Spec.Selector = map[string]string{"app.kubernetes.io/part-of": "pyro-cluster"}
		}},
		{"port to nowhere", "Service broker: port 9090 leads to 0", func(m *manifests) { m.services[0].Spec.Ports[0].TargetPort = intstr.FromString("pyr0") }},
		{"port to another", "Service broker: port 9090 leads to 9093", func(m *manifests) { m.services[0].Spec.Ports[0].TargetPort = intstr.FromString("http") }},
		{"client Service to all", "Service broker sends clients to nodes that are not ready", func(m *manifests) { m.services[0].Spec.PublishNotReadyAddresses = true }},
		{"names of ready nodes alone", "does not give every node a name", func(m *manifests) { m.services[1].Spec.PublishNotReadyAddresses = false }},
		{"no headless Service", "does not give every node a name", func(m *manifests) { m.services[1].Spec.ClusterIP = "" }},
		{"wrong headless Service", "no Service brokers", func(m *manifests) { m.statefulSets[0].Spec.ServiceName = "brokers" }},

		{"service links", "StatefulSet broker: enableServiceLinks", func(m *manifests) { m.pod().EnableServiceLinks = nil }},
		{"service links of servers", "Deployment objects: enableServiceLinks", func(m *manifests) { m.deployments[0].Spec.Template.Spec.EnableServiceLinks = &yes }},
		{"service links of the load", "Job load: enableServiceLinks", func(m *manifests) { m.jobs[0].Spec.Template.Spec.EnableServiceLinks = nil }},
		{"token", "automountServiceAccountToken", func(m *manifests) { m.pod().AutomountServiceAccountToken = nil }},
		{"host network", "shares namespaces", func(m *manifests) { m.pod().HostNetwork = true }},
		{"host path", "was not thought of", func(m *manifests) {
			m.pod().Volumes = []corev1.Volume{{Name: "etc", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc"}}}}
		}},
		{"root", "may run as root", func(m *manifests) { *m.pod().SecurityContext.RunAsUser = 0 }},
		{"perhaps root", "may run as root", func(m *manifests) { m.pod().SecurityContext.RunAsNonRoot = nil }},
		{"no seccomp", "seccompProfile", func(m *manifests) { m.pod().SecurityContext.SeccompProfile = nil }},
		{"no security context", "no securityContext of the pod", func(m *manifests) { m.pod().SecurityContext = nil }},
		{"no security context of the container", "no securityContext of the container", func(m *manifests) { m.node().SecurityContext = nil }},
		{"root in the container", "overrides what the pod says", func(m *manifests) { m.node().SecurityContext.RunAsNonRoot = &no }},
		{"escalation", "allowPrivilegeEscalation", func(m *manifests) { m.node().SecurityContext.AllowPrivilegeEscalation = nil }},
		{"writable root", "readOnlyRootFilesystem", func(m *manifests) { m.node().SecurityContext.ReadOnlyRootFilesystem = &no }},
		{"capability", "capabilities", func(m *manifests) { m.node().SecurityContext.Capabilities.Add = []corev1.Capability{"SYS_TIME"} }},
		{"capabilities", "capabilities", func(m *manifests) { m.node().SecurityContext.Capabilities = nil }},
		{"host port", "is one of its machine", func(m *manifests) { m.node().Ports[0].HostPort = 9090 }},
		{"selector", "does not select its own pods", func(m *manifests) { m.deployments[0].Spec.Selector.MatchLabels = map[string]string{"app": "x"} }},

		{"other image", "image is localhost/pyro-cluster:v1", func(m *manifests) { m.jobs[0].Spec.Template.Spec.Containers[0].Image = "localhost/pyro-cluster:v1" }},
		{"pull", "imagePullPolicy", func(m *manifests) { m.node().ImagePullPolicy = corev1.PullAlways }},
		{"no request", "want requests of CPU and memory", func(m *manifests) { delete(m.node().Resources.Requests, corev1.ResourceMemory) }},
		{"no limit", "and a limit of memory", func(m *manifests) { m.node().Resources.Limits = nil }},
		{"limit of CPU", "a limit of CPU", func(m *manifests) {
			m.node().Resources.Limits[corev1.ResourceCPU] = m.node().Resources.Requests[corev1.ResourceCPU]
		}},
		{"no variable", "argument --advertise=$(POD_NAME).broker-nodes.$(POD_NAMESPACE).svc has $(POD_NAME)", func(m *manifests) { m.node().Env = m.node().Env[1:] }},
		{"variable too late", "GOMEMLIMIT has $(MEMORY_LIMIT_MIB), which is no variable before it", func(m *manifests) {
			e := m.node().Env
			e[2], e[3] = e[3], e[2]
		}},
		{"fixed GOMEMLIMIT", "GOMEMLIMIT is not made of the limit", func(m *manifests) { m.node().Env[3].Value = "400MiB" }},
		{"GOMEMLIMIT of the request", "GOMEMLIMIT is not made of the limit", func(m *manifests) { m.node().Env[2].ValueFrom.ResourceFieldRef.Resource = "requests.memory" }},

		{"no startup probe", "no startup probe", func(m *manifests) { m.node().StartupProbe = nil }},
		{"no readiness probe of servers", "Deployment objects: no readiness probe", func(m *manifests) { server(m).ReadinessProbe = nil }},
		{"liveness by quorum", "the liveness probe asks /readyz, want /livez", func(m *manifests) { m.node().LivenessProbe.HTTPGet.Path = "/readyz" }},
		{"readiness by life", "the readiness probe asks /livez, want /readyz", func(m *manifests) { m.node().ReadinessProbe.HTTPGet.Path = "/livez" }},
		{"probe of another port", "the readiness probe asks port raft", func(m *manifests) { m.node().ReadinessProbe.HTTPGet.Port = intstr.FromString("raft") }},
		{"scrape of another port", "the annotations for Prometheus", func(m *manifests) { m.statefulSets[0].Spec.Template.Annotations["prometheus.io/port"] = "9090" }},

		{"one after the other", "wait for each other for ever", func(m *manifests) { m.statefulSets[0].Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement }},
		{"replicas", "5 replicas and --expect=3", func(m *manifests) { *m.statefulSets[0].Spec.Replicas = 5 }},
		{"expect", "3 replicas and --expect=2", func(m *manifests) { setArg(m.node(), "expect", "--expect=2") }},
		{"advertised to this namespace alone", "--advertise=$(POD_NAME).broker-nodes, want", func(m *manifests) { setArg(m.node(), "advertise", "--advertise=$(POD_NAME).broker-nodes") }},
		{"looking for two", "--join=broker-0.", func(m *manifests) {
			setArg(m.node(), "join", "--join=broker-0.broker-nodes.$(POD_NAMESPACE).svc:9092,broker-1.broker-nodes.$(POD_NAMESPACE).svc:9092")
		}},
		{"looking at the wrong port", "--join=broker-0.", func(m *manifests) {
			setArg(m.node(), "join", strings.ReplaceAll(flagOf(m.node(), "join"), ":9092", ":9090"))
		}},
		{"port", "port raft is not 9092", func(m *manifests) { m.node().Ports[1].ContainerPort = 9192 }},

		{"data on the root", "is in no volume", func(m *manifests) { setArg(m.node(), "data-dir", "--data-dir=/var/lib/node") }},
		{"data is the volume", "or is the volume itself", func(m *manifests) { setArg(m.node(), "data-dir", "--data-dir=/data") }},
		{"volume of all", "is not one of each pod", func(m *manifests) { m.statefulSets[0].Spec.VolumeClaimTemplates = nil }},
		{"no group for the volume", "without fsGroup", func(m *manifests) { m.pod().SecurityContext.FSGroup = nil }},
		{"volumes go", "volumes are deleted", func(m *manifests) {
			m.statefulSets[0].Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		}},
		{"neither TLS nor insecure", "want --insecure or all files", func(m *manifests) { setArg(m.node(), "insecure", "--log-level=info") }},
		{"TLS with a file less", "want --insecure or all files", func(m *manifests) { setArg(m.node(), "insecure", "--node-cert=/tls/tls.crt") }},
		{"TLS without the volume", "--node-cert=/tls/tls.crt is in no volume", func(m *manifests) { setArg(m.node(), "insecure", "--node-cert=/tls/tls.crt") }},

		{"no budget", "0 budgets", func(m *manifests) { m.budgets = nil }},
		{"generous budget", "the budget is not one at a time", func(m *manifests) { *m.budgets[0].Spec.MaxUnavailable = intstr.FromString("50%") }},
		{"budget of others", "0 budgets", func(m *manifests) { m.budgets[0].Spec.Selector.MatchLabels["app.kubernetes.io/name"] = "x" }},
		{"spread if possible", "two nodes may share a machine", func(m *manifests) { m.pod().TopologySpreadConstraints[0].WhenUnsatisfiable = corev1.ScheduleAnyway }},
		{"spread of others", "the spread over kubernetes.io/hostname does not select", func(m *manifests) {
			m.pod().TopologySpreadConstraints[0].LabelSelector.MatchLabels["app.kubernetes.io/name"] = "x"
		}},
		{"raft for all", "lets strangers", func(m *manifests) { m.policies[0].Spec.Ingress[0].From = nil }},
		{"raft for all namespaces", "lets strangers", func(m *manifests) {
			m.policies[0].Spec.Ingress[0].From[0].NamespaceSelector = m.policies[0].Spec.Ingress[0].From[0].PodSelector
		}},
		{"policy for a port that is not there", "port grpc does not exist", func(m *manifests) { *m.policies[0].Spec.Ingress[1].Ports[0].Port = intstr.FromString("grpc") }},
		{"no policy", "0 NetworkPolicies", func(m *manifests) { m.policies = nil }},
		{"short grace of nodes", "StatefulSet broker: 15s of grace", func(m *manifests) { *m.pod().TerminationGracePeriodSeconds = 15 }},
		{"no preStop", "no preStop", func(m *manifests) { m.node().Lifecycle = nil }},
		{"short grace of servers", "Deployment objects: 5s of grace", func(m *manifests) { *m.deployments[0].Spec.Template.Spec.TerminationGracePeriodSeconds = 5 }},

		{"servers go first", "takes servers away", func(m *manifests) { *m.deployments[0].Spec.Strategy.RollingUpdate.MaxUnavailable = intstr.FromInt32(1) }},
		{"servers on the loopback", "--host=localhost, want $(POD_IP)", func(m *manifests) { setArg(server(m), "host", "--host=localhost") }},
		{"servers' port", "--port=9101 is not the port pyro", func(m *manifests) { setArg(server(m), "port", "--port=9101") }},
		{"servers' HTTP", "--http-port=0 is not the port http", func(m *manifests) { setArg(server(m), "http-port", "--http-port=0") }},
		{"servers know one", "Deployment objects: --ns=broker-0.broker-nodes:9090, want", func(m *manifests) { setArg(server(m), "ns", "--ns=broker-0.broker-nodes:9090") }},
		{"load knows none", "Job load: --ns=", func(m *manifests) { setArg(&m.jobs[0].Spec.Template.Spec.Containers[0], "ns", "--output=json") }},
		{"load calls others", "does not call the group bank", func(m *manifests) { setArg(server(m), "group", "--group=bank") }},
		{"endless load", "Job load is not bounded", func(m *manifests) { m.jobs[0].Spec.ActiveDeadlineSeconds = nil }},
		{"two containers", "want one container", func(m *manifests) { m.pod().Containers = append(m.pod().Containers, *m.node()) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := load(t, "three nodes and the example")
			row.breaking(m)
			if got := check(m); !strings.Contains(strings.Join(got, "\n"), row.want) {
				t.Errorf("got %q, want one with %q", got, row.want)
			}
		})
	}
}

func flagOf(c *corev1.Container, name string) string { return "--" + name + "=" + flags(c)[name] }
