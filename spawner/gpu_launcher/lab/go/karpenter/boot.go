package main

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// registerRetry is the pause of a kubelet that could not register: short, since the API server is on this machine.
const registerRetry = time.Second

// boot registers an instance as a Node after delay, unless it is terminated first.
func (p *provider) boot(ctx context.Context, i *instance, delay time.Duration) {
	logger := log.FromContext(ctx).WithValues("provider-id", i.providerID)
	for pause := delay; ; pause = registerRetry {
		select {
		case <-i.gone:
			return
		case <-p.clock.After(pause):
		}
		done, err := p.register(ctx, i)
		if done {
			return
		}
		logger.Error(err, "registering instance, will try again")
	}
}

// register returns done when there is nothing left to try. An error with done false is worth another try.
func (p *provider) register(ctx context.Context, i *instance) (done bool, err error) {
	logger := log.FromContext(ctx).WithValues("provider-id", i.providerID, "instance-type", i.instanceType.Name)
	current, err := readFaults(p.settings.faultsFile)
	if err != nil {
		return false, fmt.Errorf("reading the lab's faults: %w", err)
	}
	if current.neverRegisters(i.instanceType.Name) {
		logger.Info("instance never registers (fault)")
		return true, nil
	}
	claim := &v1.NodeClaim{}
	err = p.client.Get(ctx, types.NamespacedName{Name: i.claimName}, claim)
	if client.IgnoreNotFound(err) != nil {
		return false, err
	}
	// The claim went away before Karpenter had written down what it launched: nobody else would end this instance.
	if err != nil || claim.UID != i.claimUID || !claim.DeletionTimestamp.IsZero() {
		p.fleet.remove(i.providerID)
		logger.Info("terminated instance without a claim")
		return true, nil
	}
	withGPU := !p.settings.devicePluginLate && !current.gpuNeverAdvertised(i.instanceType.Name)
	err = p.client.Create(ctx, i.node(claim, p.settings.allocatableSkew, withGPU))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return false, err
	}
	select {
	case <-i.gone: // terminated while it registered
		return true, p.deleteNode(ctx, i.nodeName)
	default:
		return true, nil
	}
}
