package main

import (
	"maps"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	kwokv1alpha1 "sigs.k8s.io/karpenter/kwok/apis/v1alpha1"
)

const resourceGPU corev1.ResourceName = "nvidia.com/gpu"

// node is what a kubelet would register for an instance: before Karpenter has seen it, and before any condition.
// withGPU is false where the device plugin speaks later or never.
func (i *instance) node(claim *v1.NodeClaim, skew float64, withGPU bool) *corev1.Node {
	labels := maps.Clone(i.labels)
	maps.Copy(labels, claim.Labels)
	labels[corev1.LabelHostname] = i.nodeName
	labels[corev1.LabelInstanceType] = i.instanceType.Name
	labels["beta.kubernetes.io/arch"] = labels[corev1.LabelArchStable]
	labels["beta.kubernetes.io/os"] = labels[corev1.LabelOSStable]
	labels[kwokv1alpha1.KwokLabelKey] = kwokv1alpha1.KwokLabelValue
	annotations := map[string]string{kwokv1alpha1.KwokLabelKey: kwokv1alpha1.KwokLabelValue}
	maps.Copy(annotations, claim.Annotations)

	capacity := skewed(i.instanceType.Capacity, skew)
	allocatable := skewed(i.instanceType.Allocatable(), skew)
	if !withGPU {
		delete(capacity, resourceGPU)
		delete(allocatable, resourceGPU)
	}
	// A kubelet registers with all taints of the claim; Karpenter takes its own mark off once labels are in step.
	taints := append([]corev1.Taint{v1.UnregisteredNoExecuteTaint}, claim.Spec.Taints...)
	taints = append(taints, claim.Spec.StartupTaints...)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: i.nodeName, Labels: labels, Annotations: annotations},
		Spec:       corev1.NodeSpec{ProviderID: i.providerID, Taints: taints},
		Status:     corev1.NodeStatus{Capacity: capacity, Allocatable: allocatable, Phase: corev1.NodePending},
	}
}

// skewed returns a copy of resources with CPU and memory scaled by 1+skew and rounded down to 1m and 1Ki.
func skewed(resources corev1.ResourceList, skew float64) corev1.ResourceList {
	result := resources.DeepCopy()
	for name, quantity := range result {
		if quantity.IsZero() {
			delete(result, name)
		}
	}
	if skew == 0 {
		return result
	}
	cpu, memory := result[corev1.ResourceCPU], result[corev1.ResourceMemory]
	result[corev1.ResourceCPU] = *resource.NewMilliQuantity(
		int64(math.Floor(float64(cpu.MilliValue())*(1+skew))), resource.DecimalSI)
	result[corev1.ResourceMemory] = *resource.NewQuantity(
		int64(math.Floor(float64(memory.Value())*(1+skew)))/1024*1024, resource.BinarySI)
	return result
}
