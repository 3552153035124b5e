// Command karpenter is Karpenter for the lab: the real controllers around a cloud of the lab's own, whose instances
// are Nodes that KWOK and the stand-in kubelet keep alive.
package main

import (
	"fmt"
	"os"

	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/metrics"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	"sigs.k8s.io/karpenter/pkg/controllers"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "karpenter:", err)
		os.Exit(1)
	}
}

// run never returns while Karpenter works; its errors are those of the settings and of the first look at the cluster.
func run() error {
	settings, err := settingsFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	catalogue, err := loadCatalogue(settings.instanceTypesFile)
	if err != nil {
		return err
	}
	// Karpenter validates NodePools and pods against these sets, so they must be complete before any controller exists.
	catalogue.registerLabels()

	ctx, op, err := newOperator()
	if err != nil {
		return err
	}
	provider := newProvider(op.GetClient(), op.Clock, settings, catalogue)
	crmetrics.Registry.MustRegister(offeringMetrics{provider.instanceTypes})

	undecorated := metrics.Decorate(provider)
	decorated := overlay.Decorate(undecorated, op.GetClient(), op.InstanceTypeStore)
	cluster := state.NewCluster(op.Clock, op.GetClient(), decorated)
	op.WithControllers(ctx, controllers.NewControllers(
		ctx,
		op.Manager,
		op.Clock,
		op.GetClient(),
		op.EventRecorder,
		decorated,
		undecorated,
		cluster,
		op.InstanceTypeStore,
	)...).Start(ctx)
	return nil
}
