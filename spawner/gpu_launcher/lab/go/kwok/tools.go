//go:build tools

// Package kwok pins the fake kubelets.
package kwok

import _ "sigs.k8s.io/kwok/cmd/kwok"
