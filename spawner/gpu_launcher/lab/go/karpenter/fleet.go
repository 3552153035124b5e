package main

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
)

const providerIDPrefix = "kwok:///"

// instance is a machine that the cloud has launched, whether or not it has registered as a Node.
type instance struct {
	providerID   string
	nodeName     string
	claimName    string
	claimUID     types.UID
	instanceType *cloudprovider.InstanceType
	// labels are what the launch resolved: type, zone, capacity type and all labels of the type.
	labels map[string]string
	// gone is closed when the instance is terminated, which ends its boot.
	gone chan struct{}
}

// newInstance gives a machine an identity like EC2's: the Node's name is not the claim's, and no name comes twice.
func newInstance(claim *v1.NodeClaim, choice candidate) *instance {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails: crypto/rand ends the process instead
	name := "i-0" + hex.EncodeToString(id)
	labels := singleLabels(choice.instanceType.Requirements)
	for key, value := range singleLabels(choice.offering.Requirements) {
		labels[key] = value
	}
	return &instance{
		providerID:   providerIDPrefix + choice.offering.Zone() + "/" + name,
		nodeName:     name + ".ec2.internal",
		claimName:    claim.Name,
		claimUID:     claim.UID,
		instanceType: choice.instanceType,
		labels:       labels,
		gone:         make(chan struct{}),
	}
}

// nodeNameOf returns the name that an instance registers under, from its provider id; "" for foreign ids.
func nodeNameOf(providerID string) string {
	path, ok := strings.CutPrefix(providerID, providerIDPrefix)
	if !ok {
		return ""
	}
	_, name, ok := strings.Cut(path, "/")
	if !ok {
		return ""
	}
	return name + ".ec2.internal"
}

// claim is the instance as the cloud reports it: with the estimate, never with what the Node turned out to have.
func (i *instance) claim() *v1.NodeClaim {
	result := &v1.NodeClaim{}
	result.Name = i.claimName
	result.Labels = maps.Clone(i.labels)
	result.Status.ProviderID = i.providerID
	result.Status.ImageID = "ami-lab"
	result.Status.Capacity = skewed(i.instanceType.Capacity, 0)
	result.Status.Allocatable = skewed(i.instanceType.Allocatable(), 0)
	return result
}

// fleet is all running instances. A lab ends with its Karpenter, so nothing outlives this process.
type fleet struct {
	mutex sync.Mutex
	byID  map[string]*instance
}

func newFleet() *fleet {
	return &fleet{byID: map[string]*instance{}}
}

func (f *fleet) add(i *instance) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.byID[i.providerID] = i
}

func (f *fleet) get(providerID string) *instance {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.byID[providerID]
}

func (f *fleet) list() []*instance {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	result := make([]*instance, 0, len(f.byID))
	for _, i := range f.byID {
		result = append(result, i)
	}
	return result
}

// remove terminates an instance and returns it; nil if there is none, so that a second call is harmless.
func (f *fleet) remove(providerID string) *instance {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	i := f.byID[providerID]
	if i == nil {
		return nil
	}
	delete(f.byID, providerID)
	close(i.gone)
	return i
}

// reserved counts the instances that run in a capacity reservation.
func (f *fleet) reserved(reservation string) int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	count := 0
	for _, i := range f.byID {
		if i.labels[labelReservationID] == reservation {
			count++
		}
	}
	return count
}
