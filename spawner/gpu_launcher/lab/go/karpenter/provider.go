package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	kwokv1alpha1 "sigs.k8s.io/karpenter/kwok/apis/v1alpha1"
)

var _ cloudprovider.CloudProvider = (*provider)(nil)

// provider is the lab's cloud. It sells the catalogue as AWS's provider would, and its faults are switched in a file.
type provider struct {
	client    client.Client
	clock     clock.Clock
	settings  settings
	catalogue *catalogue
	fleet     *fleet
	memory    *capacityMemory
	// launching is held from the look at what is left to the launch: Karpenter launches several claims at once, and
	// the last machine of a reservation can be bought once only.
	launching sync.Mutex
}

func newProvider(c client.Client, clk clock.Clock, s settings, types *catalogue) *provider {
	return &provider{client: c, clock: clk, settings: s, catalogue: types, fleet: newFleet(), memory: &capacityMemory{}}
}

// Create launches one instance for a claim and returns at once; the Node follows after the node class's delay.
// Like one fleet request it asks for a single capacity type: the next type's turn comes with Karpenter's next claim.
func (p *provider) Create(ctx context.Context, claim *v1.NodeClaim) (*v1.NodeClaim, error) {
	nodeClass, err := p.nodeClass(ctx, claim)
	if err != nil {
		return nil, err
	}
	current, err := readFaults(p.settings.faultsFile)
	if err != nil {
		return nil, fmt.Errorf("reading the lab's faults: %w", err)
	}
	p.launching.Lock()
	defer p.launching.Unlock()
	choices := preferred(candidates(claim, p.instanceTypes()))
	if len(choices) == 0 {
		return nil, cloudprovider.NewInsufficientCapacityError(
			errors.New("all requested instance types were unavailable during launch"))
	}
	choice, refusals := p.buy(choices, current)
	if choice == nil {
		return nil, cloudprovider.NewInsufficientCapacityError(
			fmt.Errorf("with fleet error(s), %s", strings.Join(refusals, "; ")))
	}
	launched := newInstance(claim, *choice)
	p.fleet.add(launched)
	go p.boot(context.WithoutCancel(ctx), launched, nodeClass.Spec.NodeRegistrationDelay.Duration)
	return launched.claim(), nil
}

// buy returns the first choice that the cloud would launch, or nil and the cloud's words, each once.
func (p *provider) buy(choices []candidate, current faults) (*candidate, []string) {
	var refusals []string
	seen := map[string]bool{}
	for i, choice := range choices {
		refusal := current.refusal(choice.key())
		if refusal == "" {
			return &choices[i], nil
		}
		p.memory.mark(choice.key(), p.clock.Now().Add(p.settings.iceMemory))
		if !seen[refusal] {
			seen[refusal] = true
			refusals = append(refusals, refusal)
		}
	}
	return nil, refusals
}

func (p *provider) nodeClass(ctx context.Context, claim *v1.NodeClaim) (*kwokv1alpha1.KWOKNodeClass, error) {
	result := &kwokv1alpha1.KWOKNodeClass{}
	err := p.client.Get(ctx, types.NamespacedName{Name: claim.Spec.NodeClassRef.Name}, result)
	switch {
	case apierrors.IsNotFound(err):
		return nil, cloudprovider.NewInsufficientCapacityError(fmt.Errorf("resolving node class, %w", err))
	case err != nil:
		return nil, fmt.Errorf("resolving node class, %w", err)
	}
	if ready := result.StatusConditions().Get(status.ConditionReady); ready.IsFalse() {
		return nil, cloudprovider.NewNodeClassNotReadyError(errors.New(ready.Message))
	}
	return result, nil
}

// Delete terminates an instance at once, and takes its Node away as a cloud's own controller would.
func (p *provider) Delete(ctx context.Context, claim *v1.NodeClaim) error {
	if p.fleet.remove(claim.Status.ProviderID) != nil {
		log.FromContext(ctx).Info("terminated instance", "provider-id", claim.Status.ProviderID)
	}
	if err := p.deleteNode(ctx, nodeNameOf(claim.Status.ProviderID)); err != nil {
		return err
	}
	return cloudprovider.NewNodeClaimNotFoundError(errors.New("instance terminated"))
}

func (p *provider) deleteNode(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	node := &corev1.Node{}
	err := p.client.Get(ctx, types.NamespacedName{Name: name}, node)
	if err == nil && node.DeletionTimestamp.IsZero() {
		err = p.client.Delete(ctx, node)
	}
	return client.IgnoreNotFound(err)
}

func (p *provider) Get(_ context.Context, providerID string) (*v1.NodeClaim, error) {
	if found := p.fleet.get(providerID); found != nil {
		return found.claim(), nil
	}
	return nil, cloudprovider.NewNodeClaimNotFoundError(fmt.Errorf("no instance %q", providerID))
}

func (p *provider) List(context.Context) ([]*v1.NodeClaim, error) {
	var result []*v1.NodeClaim
	for _, i := range p.fleet.list() {
		result = append(result, i.claim())
	}
	return result, nil
}

func (p *provider) GetInstanceTypes(context.Context, *v1.NodePool) ([]*cloudprovider.InstanceType, error) {
	return p.instanceTypes(), nil
}

// instanceTypes returns the catalogue with today's availability: all types, also those that nobody can buy now.
func (p *provider) instanceTypes() []*cloudprovider.InstanceType {
	now := p.clock.Now()
	result := make([]*cloudprovider.InstanceType, 0, len(p.catalogue.types))
	for _, known := range p.catalogue.types {
		// A new value, since Karpenter computes once per value and keeps what it computed.
		instanceType := &cloudprovider.InstanceType{
			Name: known.Name, Requirements: known.Requirements, Capacity: known.Capacity, Overhead: known.Overhead,
		}
		for _, offering := range known.Offerings {
			instanceType.Offerings = append(instanceType.Offerings, p.offeringNow(known, offering, now))
		}
		result = append(result, instanceType)
	}
	return result
}

func (p *provider) offeringNow(
	instanceType *cloudprovider.InstanceType, known *cloudprovider.Offering, now time.Time,
) *cloudprovider.Offering {
	result := &cloudprovider.Offering{
		Requirements:        known.Requirements,
		Price:               known.Price,
		Available:           known.Available && !p.memory.unavailable(candidate{instanceType, known}.key(), now),
		ReservationCapacity: known.ReservationCapacity,
	}
	if known.CapacityType() == v1.CapacityTypeReserved {
		result.ReservationCapacity -= p.fleet.reserved(known.ReservationID())
		result.Available = result.Available && result.ReservationCapacity > 0
	}
	return result
}

// IsDrifted knows no drift of the cloud's; Karpenter sees a changed NodePool by itself.
func (p *provider) IsDrifted(context.Context, *v1.NodeClaim) (cloudprovider.DriftReason, error) {
	return "", nil
}

func (p *provider) RepairPolicies() []cloudprovider.RepairPolicy {
	return []cloudprovider.RepairPolicy{
		{ConditionType: corev1.NodeReady, ConditionStatus: corev1.ConditionFalse, TolerationDuration: 30 * time.Minute},
		{ConditionType: corev1.NodeReady, ConditionStatus: corev1.ConditionUnknown, TolerationDuration: 30 * time.Minute},
	}
}

// Name is KWOK's, because the node class is.
func (p *provider) Name() string { return "kwok" }

func (p *provider) GetSupportedNodeClasses() []status.Object {
	return []status.Object{&kwokv1alpha1.KWOKNodeClass{}}
}
