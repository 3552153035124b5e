package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/awslabs/operatorpkg/serrors"
	"github.com/go-logr/zapr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	v1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/controllers/nodeoverlay"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/operator"
	"sigs.k8s.io/karpenter/pkg/operator/injection"
	"sigs.k8s.io/karpenter/pkg/operator/logging"
	"sigs.k8s.io/karpenter/pkg/operator/options"
)

// newOperator is Karpenter's operator with ears for this machine only. Karpenter's own listens on every interface,
// and neither its address nor its absence can be set.
func newOperator() (context.Context, *operator.Operator, error) {
	ctx := injection.WithOptionsOrDie(context.Background(), options.Injectables...)
	given := options.FromContext(ctx)
	logger := serrors.NewLogger(zapr.NewLogger(logging.NewLogger(ctx, "controller")))
	log.SetLogger(logger)
	klog.SetLogger(logger)
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, nil, err
	}
	config.QPS, config.Burst = float32(given.KubeClientQPS), given.KubeClientBurst
	config.UserAgent = operator.AppName
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Logger:                 logging.IgnoreDebugEvents(logger),
		Metrics:                server.Options{BindAddress: loopback(given.MetricsPort)},
		HealthProbeBindAddress: loopback(given.HealthProbePort),
		BaseContext:            func() context.Context { return log.IntoContext(ctx, logger) },
	})
	if err != nil {
		return nil, nil, err
	}
	if err := addIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return nil, nil, err
	}
	if err := addChecks(mgr); err != nil {
		return nil, nil, err
	}
	return ctx, &operator.Operator{
		Manager:             mgr,
		KubernetesInterface: kube,
		EventRecorder:       events.NewRecorder(mgr.GetEventRecorderFor(operator.AppName)), //nolint:staticcheck // as Karpenter's
		Clock:               clock.RealClock{},
		InstanceTypeStore:   nodeoverlay.NewInstanceTypeStore(),
	}, nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// addIndexes adds the fields that Karpenter's controllers look objects up by; a look-up without its index fails.
func addIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	type index struct {
		object client.Object
		field  string
		value  func(client.Object) string
	}
	class := func(o client.Object) *v1.NodeClassReference {
		if claim, ok := o.(*v1.NodeClaim); ok {
			return claim.Spec.NodeClassRef
		}
		return o.(*v1.NodePool).Spec.Template.Spec.NodeClassRef
	}
	indexes := []index{
		{&corev1.Pod{}, "spec.nodeName", func(o client.Object) string { return o.(*corev1.Pod).Spec.NodeName }},
		{&corev1.Node{}, "spec.providerID", func(o client.Object) string { return o.(*corev1.Node).Spec.ProviderID }},
		{&storagev1.VolumeAttachment{}, "spec.nodeName", func(o client.Object) string {
			return o.(*storagev1.VolumeAttachment).Spec.NodeName
		}},
		{&v1.NodeClaim{}, "status.providerID", func(o client.Object) string {
			return o.(*v1.NodeClaim).Status.ProviderID
		}},
	}
	for prefix, object := range map[string]client.Object{
		"spec.nodeClassRef.": &v1.NodeClaim{}, "spec.template.spec.nodeClassRef.": &v1.NodePool{},
	} {
		indexes = append(indexes,
			index{object, prefix + "group", func(o client.Object) string { return class(o).Group }},
			index{object, prefix + "kind", func(o client.Object) string { return class(o).Kind }},
			index{object, prefix + "name", func(o client.Object) string { return class(o).Name }},
		)
	}
	for _, i := range indexes {
		values := func(o client.Object) []string { return []string{i.value(o)} }
		if err := indexer.IndexField(ctx, i.object, i.field, values); err != nil {
			return fmt.Errorf("indexing %s: %w", i.field, err)
		}
	}
	return nil
}

// addChecks makes the health endpoint ready once every cache has been filled.
func addChecks(mgr manager.Manager) error {
	if err := mgr.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return err
	}
	return mgr.AddReadyzCheck("caches", func(request *http.Request) error {
		if !mgr.GetCache().WaitForCacheSync(request.Context()) {
			return errors.New("the caches are not filled yet")
		}
		return nil
	})
}
