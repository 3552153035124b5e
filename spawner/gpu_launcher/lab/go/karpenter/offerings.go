package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"
)

// offeringKey is what a capacity error is about.
type offeringKey struct {
	instanceType, zone, capacityType string
}

// capacityMemory remembers capacity errors, so that Karpenter plans without those offerings for a while.
type capacityMemory struct {
	mutex sync.Mutex
	until map[offeringKey]time.Time
}

func (m *capacityMemory) mark(key offeringKey, until time.Time) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.until == nil {
		m.until = map[offeringKey]time.Time{}
	}
	m.until[key] = until
}

func (m *capacityMemory) unavailable(key offeringKey, now time.Time) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return now.Before(m.until[key])
}

// candidate is an offering that could serve a claim.
type candidate struct {
	instanceType *cloudprovider.InstanceType
	offering     *cloudprovider.Offering
}

func (c candidate) key() offeringKey {
	return offeringKey{c.instanceType.Name, c.offering.Zone(), c.offering.CapacityType()}
}

func (c candidate) String() string {
	return fmt.Sprintf("%s/%s/%s", c.instanceType.Name, c.offering.Zone(), c.offering.CapacityType())
}

// candidates returns the available offerings that a claim can use.
func candidates(claim *v1.NodeClaim, types []*cloudprovider.InstanceType) []candidate {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	var result []candidate
	for _, instanceType := range types {
		if !requirements.IsCompatible(instanceType.Requirements, scheduling.AllowUndefinedWellKnownLabels) ||
			!resources.Fits(claim.Spec.Resources.Requests, instanceType.Allocatable()) {
			continue
		}
		for _, offering := range instanceType.Offerings.Available().Compatible(requirements) {
			result = append(result, candidate{instanceType, offering})
		}
	}
	return result
}

// preferred returns the candidates of the one capacity type that AWS's provider would ask for, cheapest first:
// reserved before spot before on-demand. Spot that costs more than on-demand is not wanted.
func preferred(all []candidate) []candidate {
	byCapacityType := map[string][]candidate{}
	for _, c := range all {
		byCapacityType[c.offering.CapacityType()] = append(byCapacityType[c.offering.CapacityType()], c)
	}
	for _, cs := range byCapacityType {
		slices.SortStableFunc(cs, func(a, b candidate) int {
			switch {
			case a.offering.Price < b.offering.Price:
				return -1
			case a.offering.Price > b.offering.Price:
				return 1
			default:
				return strings.Compare(a.instanceType.Name, b.instanceType.Name)
			}
		})
	}
	if reserved := byCapacityType[v1.CapacityTypeReserved]; len(reserved) > 0 {
		return reserved
	}
	spot, onDemand := byCapacityType[v1.CapacityTypeSpot], byCapacityType[v1.CapacityTypeOnDemand]
	if len(onDemand) > 0 {
		spot = slices.DeleteFunc(spot, func(c candidate) bool { return c.offering.Price > onDemand[0].offering.Price })
	}
	if len(spot) > 0 {
		return spot
	}
	return onDemand
}
