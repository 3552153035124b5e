package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	kwokv1alpha1 "sigs.k8s.io/karpenter/kwok/apis/v1alpha1"
)

func TestMain(m *testing.M) {
	testTypes().registerLabels()
	os.Exit(m.Run())
}

func price(usd float64) *float64 { return &usd }

func testTypes() *catalogue {
	list := func(cpu, memory, gpus string) corev1.ResourceList {
		return corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
			corev1.ResourcePods: resource.MustParse("58"), resourceGPU: resource.MustParse(gpus),
		}
	}
	entry := func(name, gpus string, usd float64) typeEntry {
		return typeEntry{
			Name:        name,
			Labels:      map[string]string{corev1.LabelArchStable: "amd64", awsLabelDomain + "/instance-gpu-count": gpus},
			Capacity:    list("4", "15155Mi", gpus),
			Allocatable: list("3920m", "14162Mi", gpus),
			Offerings: []offeringEntry{
				{Zone: "us-east-1a", ZoneID: "use1-az1", CapacityType: v1.CapacityTypeOnDemand, Price: price(usd)},
				{Zone: "us-east-1a", ZoneID: "use1-az1", CapacityType: v1.CapacityTypeSpot, Price: price(usd * 0.4)},
			},
		}
	}
	small, large := entry("g5.xlarge", "1", 1), entry("g5.12xlarge", "4", 5)
	small.Offerings = append(small.Offerings, offeringEntry{
		Zone: "us-east-1a", CapacityType: v1.CapacityTypeReserved, Price: price(1), Reservation: "cr-1", Count: 1,
	})
	return newCatalogue([]typeEntry{large, small})
}

type lab struct {
	*provider
	clock  *clocktesting.FakeClock
	client client.Client
}

func newLab(t *testing.T, faultsText string, objects ...client.Object) lab {
	t.Helper()
	file := filepath.Join(t.TempDir(), "faults.json")
	if err := os.WriteFile(file, []byte(faultsText), 0o600); err != nil {
		t.Fatal(err)
	}
	class := &kwokv1alpha1.KWOKNodeClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}}
	class.Spec.NodeRegistrationDelay.Duration = time.Minute
	kube := fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(append(objects, class)...).Build()
	clock := clocktesting.NewFakeClock(time.Now())
	s := settings{faultsFile: file, iceMemory: 3 * time.Minute}
	return lab{newProvider(kube, clock, s, testTypes()), clock, kube}
}

func claimFor(name string, capacityTypes ...string) *v1.NodeClaim {
	claim := &v1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-1"}}
	claim.Spec.NodeClassRef = &v1.NodeClassReference{Group: "karpenter.kwok.sh", Kind: "KWOKNodeClass", Name: "gpu"}
	claim.Spec.Requirements = []v1.NodeSelectorRequirementWithMinValues{
		{Key: v1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: capacityTypes},
	}
	claim.Spec.Resources.Requests = corev1.ResourceList{resourceGPU: resource.MustParse("1")}
	return claim
}

func (l lab) create(t *testing.T, claim *v1.NodeClaim) *v1.NodeClaim {
	t.Helper()
	launched, err := l.Create(context.Background(), claim)
	if err != nil {
		t.Fatal(err)
	}
	return launched
}

func TestCreatePrefersReservedThenSpotThenOnDemand(t *testing.T) {
	l := newLab(t, "{}")
	all := []string{v1.CapacityTypeOnDemand, v1.CapacityTypeSpot, v1.CapacityTypeReserved}
	// The reservation holds one machine, so the second claim gets spot.
	for _, want := range []string{v1.CapacityTypeReserved, v1.CapacityTypeSpot} {
		launched := l.create(t, claimFor("c", all...))
		if got := launched.Labels[v1.CapacityTypeLabelKey]; got != want {
			t.Errorf("capacity type %s, want %s", got, want)
		}
		if got := launched.Labels[corev1.LabelInstanceTypeStable]; got != "g5.xlarge" {
			t.Errorf("bought %s, not the cheapest type that fits", got)
		}
	}
	launched := l.create(t, claimFor("c", v1.CapacityTypeOnDemand))
	if got := launched.Labels[v1.CapacityTypeLabelKey]; got != v1.CapacityTypeOnDemand {
		t.Errorf("capacity type %s, want on-demand", got)
	}
}

func TestACapacityErrorTriesOneCapacityTypeAndIsRemembered(t *testing.T) {
	l := newLab(t, `{"capacity":[{"instance_type":"*","zone":"*","capacity_type":"spot","kind":"ice"}]}`)
	claim := claimFor("c", v1.CapacityTypeOnDemand, v1.CapacityTypeSpot)
	_, err := l.Create(context.Background(), claim)
	if !cloudprovider.IsInsufficientCapacityError(err) || !strings.Contains(err.Error(), "InsufficientInstanceCapacity: ") {
		t.Fatalf("error %v", err)
	}
	if launched := l.create(t, claim); launched.Labels[v1.CapacityTypeLabelKey] != v1.CapacityTypeOnDemand {
		t.Errorf("bought %v, want on-demand after spot was refused", launched.Labels)
	}
	// Spot of the large type costs more than the small type on demand: it was not asked for, so nothing is known of it.
	if got := availableOf(l, v1.CapacityTypeSpot); got != 1 {
		t.Errorf("%d spot offerings available right after the error, want 1", got)
	}
	l.clock.Step(l.settings.iceMemory)
	if got := availableOf(l, v1.CapacityTypeSpot); got != 2 {
		t.Errorf("%d spot offerings available after the memory has passed, want 2", got)
	}
}

func availableOf(l lab, capacityType string) int {
	count := 0
	for _, instanceType := range l.instanceTypes() {
		for _, offering := range instanceType.Offerings.Available() {
			if offering.CapacityType() == capacityType {
				count++
			}
		}
	}
	return count
}

func TestQuotaIsWordedByCapacityType(t *testing.T) {
	for capacityType, code := range map[string]string{
		v1.CapacityTypeOnDemand: "VcpuLimitExceeded: ", v1.CapacityTypeSpot: "MaxSpotInstanceCountExceeded: ",
	} {
		l := newLab(t, `{"capacity":[{"instance_type":"g5.*","kind":"quota"}]}`)
		_, err := l.Create(context.Background(), claimFor("c", capacityType))
		if !cloudprovider.IsInsufficientCapacityError(err) || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: error %v, want %s", capacityType, err, code)
		}
	}
}

func TestABrokenFaultsFileFailsTheLaunch(t *testing.T) {
	l := newLab(t, "{")
	_, err := l.Create(context.Background(), claimFor("c", v1.CapacityTypeSpot))
	if err == nil || cloudprovider.IsInsufficientCapacityError(err) {
		t.Fatalf("error %v, want one about the file", err)
	}
}

func TestRegisterMakesTheNodeOfALivingClaim(t *testing.T) {
	claim := claimFor("c", v1.CapacityTypeOnDemand)
	claim.Spec.StartupTaints = []corev1.Taint{{Key: "starting", Effect: corev1.TaintEffectNoSchedule}}
	l := newLab(t, "{}", claim)
	l.settings.allocatableSkew, l.settings.devicePluginLate = -0.02, true
	launched := l.create(t, claim)
	if done, err := l.register(context.Background(), l.fleet.get(launched.Status.ProviderID)); !done || err != nil {
		t.Fatal(done, err)
	}
	node := &corev1.Node{}
	name := nodeNameOf(launched.Status.ProviderID)
	if err := l.client.Get(context.Background(), client.ObjectKey{Name: name}, node); err != nil {
		t.Fatal(err)
	}
	if got := node.Status.Allocatable.Cpu().MilliValue(); got != 3841 {
		t.Errorf("%dm CPU, want 3920m less 2%%", got)
	}
	if estimate := launched.Status.Allocatable.Cpu().MilliValue(); estimate != 3920 {
		t.Errorf("the claim says %dm, want the estimate", estimate)
	}
	if _, ok := node.Status.Allocatable[resourceGPU]; ok {
		t.Error("the GPU was advertised before the device plugin came")
	}
	if len(node.Spec.Taints) != 2 {
		t.Errorf("taints %v, want unregistered and the startup taint", node.Spec.Taints)
	}
	// Deleting the instance takes its Node along, and is harmless when repeated.
	for range 2 {
		launched.Name = "c"
		if err := l.Delete(context.Background(), launched); !cloudprovider.IsNodeClaimNotFoundError(err) {
			t.Fatal(err)
		}
	}
	if err := l.client.Get(context.Background(), client.ObjectKey{Name: name}, node); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the Node outlived its instance: %v", err)
	}
}

func TestAnInstanceWithoutItsClaimIsTerminated(t *testing.T) {
	l := newLab(t, "{}")
	launched := l.create(t, claimFor("gone", v1.CapacityTypeOnDemand))
	done, err := l.register(context.Background(), l.fleet.get(launched.Status.ProviderID))
	if !done || err != nil || len(l.fleet.list()) != 0 {
		t.Errorf("done %v, error %v, fleet %v; want it empty", done, err, l.fleet.list())
	}
}

func TestANeverRegisteringInstanceStaysInTheFleet(t *testing.T) {
	claim := claimFor("c", v1.CapacityTypeOnDemand)
	l := newLab(t, `{"never_register":["g5.*"]}`, claim)
	launched := l.create(t, claim)
	done, err := l.register(context.Background(), l.fleet.get(launched.Status.ProviderID))
	if !done || err != nil {
		t.Fatal(done, err)
	}
	if _, err := l.Get(context.Background(), launched.Status.ProviderID); err != nil {
		t.Error(err)
	}
}

func TestWhatHasNoPriceHasNoPriceSample(t *testing.T) {
	unsold := typeEntry{Name: "p9.large", Offerings: []offeringEntry{
		{Zone: "us-east-1a", CapacityType: v1.CapacityTypeOnDemand},
		{Zone: "us-east-1b", CapacityType: v1.CapacityTypeOnDemand, Price: price(2)},
	}}
	types := newCatalogue([]typeEntry{unsold}).types
	found := offeringMetrics{func() []*cloudprovider.InstanceType { return types }}
	expected := `
# HELP karpenter_cloudprovider_instance_type_offering_available 1 where an offering can be bought as far as the provider knows, else 0.
# TYPE karpenter_cloudprovider_instance_type_offering_available gauge
karpenter_cloudprovider_instance_type_offering_available{capacity_type="on-demand",instance_type="p9.large",zone="us-east-1a"} 0
karpenter_cloudprovider_instance_type_offering_available{capacity_type="on-demand",instance_type="p9.large",zone="us-east-1b"} 1
# HELP karpenter_cloudprovider_instance_type_offering_price_estimate Hourly price of an offering in US dollars.
# TYPE karpenter_cloudprovider_instance_type_offering_price_estimate gauge
karpenter_cloudprovider_instance_type_offering_price_estimate{capacity_type="on-demand",instance_type="p9.large",zone="us-east-1b"} 2
`
	if err := testutil.CollectAndCompare(found, strings.NewReader(expected)); err != nil {
		t.Error(err)
	}
}

func TestSettingsNameTheVariableThatIsWrong(t *testing.T) {
	for _, variable := range []string{
		"INSTANCE_TYPES_FILE_PATH", "LAB_ALLOCATABLE_SKEW", "LAB_ICE_MEMORY", "LAB_DEVICE_PLUGIN_LATE",
	} {
		environment := map[string]string{"INSTANCE_TYPES_FILE_PATH": "types.json", variable: "x"}
		if variable == "INSTANCE_TYPES_FILE_PATH" {
			environment[variable] = ""
		}
		_, err := settingsFromEnvironment(func(name string) string { return environment[name] })
		if err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("%s: error %v", variable, err)
		}
	}
}
