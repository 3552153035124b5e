//go:build tools

// Package helm pins the chart installer.
package helm

import _ "helm.sh/helm/v4/cmd/helm"
