package main

import (
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	kwokv1alpha1 "sigs.k8s.io/karpenter/kwok/apis/v1alpha1"
)

// Labels of AWS's provider that the lab's offerings carry. Those of a type come from the file.
const (
	awsLabelDomain           = "karpenter.k8s.aws"
	labelReservationID       = awsLabelDomain + "/capacity-reservation-id"
	labelReservationType     = awsLabelDomain + "/capacity-reservation-type"
	labelZoneID              = "topology.k8s.aws/zone-id"
	reservationTypeOnDemand  = "default"
	reservedPriceDenominator = 10_000_000 // AWS's provider: as good as free, yet still in the order of prices
)

// typeEntry is one instance type of the lab's instance_types.json.
type typeEntry struct {
	Name        string              `json:"name"`
	Labels      map[string]string   `json:"labels"`
	Capacity    corev1.ResourceList `json:"capacity"`
	Allocatable corev1.ResourceList `json:"allocatable"`
	Offerings   []offeringEntry     `json:"offerings"`
}

// offeringEntry is where and how a type is sold. Without a price it is known but can never be bought.
type offeringEntry struct {
	Zone         string   `json:"zone"`
	ZoneID       string   `json:"zone_id"`
	CapacityType string   `json:"capacity_type"`
	Price        *float64 `json:"price"`
	// Reservation and Count are set for reserved capacity only.
	Reservation string `json:"reservation"`
	Count       int    `json:"count"`
}

// catalogue is every type that the lab's cloud sells. It never changes; availability is added per look.
type catalogue struct {
	types  []*cloudprovider.InstanceType
	labels sets.Set[string]
}

func loadCatalogue(path string) (*catalogue, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("INSTANCE_TYPES_FILE_PATH: %w", err)
	}
	var entries []typeEntry
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s: holds no instance type", path)
	}
	return newCatalogue(entries), nil
}

func newCatalogue(entries []typeEntry) *catalogue {
	result := &catalogue{labels: sets.New[string]()}
	for _, entry := range entries {
		for label := range entry.Labels {
			result.labels.Insert(label)
		}
	}
	for _, entry := range entries {
		result.types = append(result.types, entry.instanceType(result.labels))
	}
	return result
}

// registerLabels tells Karpenter which labels are real here and which it must refuse to invent, as AWS's provider does.
func (c *catalogue) registerLabels() {
	cloudprovider.ReservationIDLabel = labelReservationID
	cloudprovider.ReservedCapacityLabels.Insert(labelReservationID, labelReservationType)
	v1.RestrictedLabelDomains.Insert(awsLabelDomain)
	v1.WellKnownLabels.Insert(labelReservationID, labelReservationType, labelZoneID)
	v1.WellKnownLabels = v1.WellKnownLabels.Union(c.labels)
}

// instanceType has a requirement for each label in known: a type without a GPU must refuse a claim that names one.
func (e typeEntry) instanceType(known sets.Set[string]) *cloudprovider.InstanceType {
	requirements := scheduling.NewRequirements(
		in(corev1.LabelInstanceTypeStable, e.Name),
		in(corev1.LabelOSStable, string(corev1.Linux)),
	)
	for label := range known {
		if value, ok := e.Labels[label]; ok {
			requirements.Add(in(label, value))
		} else {
			requirements.Add(scheduling.NewRequirement(label, corev1.NodeSelectorOpDoesNotExist))
		}
	}
	for _, label := range []string{
		kwokv1alpha1.InstanceSizeLabelKey, kwokv1alpha1.InstanceFamilyLabelKey,
		kwokv1alpha1.InstanceCPULabelKey, kwokv1alpha1.InstanceMemoryLabelKey,
	} {
		requirements.Add(scheduling.NewRequirement(label, corev1.NodeSelectorOpDoesNotExist))
	}
	zones, capacityTypes := sets.New[string](), sets.New[string]()
	var offerings cloudprovider.Offerings
	for _, offering := range e.Offerings {
		zones.Insert(offering.Zone)
		capacityTypes.Insert(offering.CapacityType)
		offerings = append(offerings, offering.offering())
	}
	requirements.Add(in(corev1.LabelTopologyZone, sets.List(zones)...))
	requirements.Add(in(v1.CapacityTypeLabelKey, sets.List(capacityTypes)...))
	return &cloudprovider.InstanceType{
		Name:         e.Name,
		Requirements: requirements,
		Offerings:    offerings,
		Capacity:     e.Capacity,
		Overhead:     &cloudprovider.InstanceTypeOverhead{KubeReserved: resources.Subtract(e.Capacity, e.Allocatable)},
	}
}

func (e offeringEntry) offering() *cloudprovider.Offering {
	result := &cloudprovider.Offering{
		Requirements: scheduling.NewRequirements(
			in(corev1.LabelTopologyZone, e.Zone),
			in(v1.CapacityTypeLabelKey, e.CapacityType),
		),
		Available: e.Price != nil,
	}
	if e.ZoneID != "" {
		result.Requirements.Add(in(labelZoneID, e.ZoneID))
	}
	if e.Price != nil {
		result.Price = *e.Price
	}
	if e.CapacityType == v1.CapacityTypeReserved {
		result.Price /= reservedPriceDenominator
		result.ReservationCapacity = e.Count
		result.Requirements.Add(in(labelReservationID, e.Reservation), in(labelReservationType, reservationTypeOnDemand))
		return result
	}
	result.Requirements.Add(
		scheduling.NewRequirement(labelReservationID, corev1.NodeSelectorOpDoesNotExist),
		scheduling.NewRequirement(labelReservationType, corev1.NodeSelectorOpDoesNotExist),
	)
	return result
}

func in(key string, values ...string) *scheduling.Requirement {
	return scheduling.NewRequirement(key, corev1.NodeSelectorOpIn, values...)
}

// singleLabels are the labels that requirements fix: one allowed value each.
func singleLabels(requirements scheduling.Requirements) map[string]string {
	result := map[string]string{}
	for key, requirement := range requirements {
		if requirement.Operator() == corev1.NodeSelectorOpIn && requirement.Len() == 1 {
			result[key] = requirement.Any()
		}
	}
	return result
}
