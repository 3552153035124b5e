{{/* The prefix of every name. 40 characters leave room for the longest suffix. */}}
{{- define "gpu-launcher.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of cluster-scoped permissions: two releases of one name may live in two namespaces. */}}
{{- define "gpu-launcher.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "gpu-launcher.fullname" .) -}}
{{- end -}}

{{- define "gpu-launcher.labels" -}}
{{ include "gpu-launcher.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: gpu-launcher
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "gpu-launcher.selectorLabels" -}}
app.kubernetes.io/name: gpu-launcher
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gpu-launcher.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest }}
{{- else -}}
{{ printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) }}
{{- end -}}
{{- end -}}

{{- define "gpu-launcher.hubNamespace" -}}
{{- default .Release.Namespace .Values.hub.namespace -}}
{{- end -}}

{{- define "gpu-launcher.hubSubject" -}}
- kind: ServiceAccount
  name: {{ .Values.hub.serviceAccount }}
  namespace: {{ include "gpu-launcher.hubNamespace" . }}
{{- end -}}

{{/* Nothing; fails for a taint that sessions do not tolerate: the pool would never serve one. */}}
{{- define "gpu-launcher.tolerated" -}}
{{- $cluster := default dict .settings.cluster -}}
{{- $keys := default (list "nvidia.com/gpu") $cluster.toleration_keys -}}
{{- range .taints -}}
{{- if eq .effect "NoExecute" -}}
{{- fail (printf "nodePools.gpu.taints: sessions tolerate no NoExecute; use NoSchedule for %s" .key) -}}
{{- end -}}
{{- if and (eq .effect "NoSchedule") (not (has .key $keys)) -}}
{{- fail (printf "nodePools.gpu.taints: sessions do not tolerate %s; add it to settings.cluster.toleration_keys" .key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Nothing; fails for a profile whose capacity or architecture its pool does not offer: its sessions would wait for ever. */}}
{{- define "gpu-launcher.served" -}}
{{- $buys := dict "on-demand" (list "on-demand" "reserved") "spot-first" (list "spot") "spot" (list "spot") "reserved" (list "reserved") -}}
{{- range $profile := .profiles -}}
{{- if eq (kindIs "map" $profile.gpu) (eq $.name "gpu") -}}
{{- $capacity := ternary "spot-first" (default "on-demand" $profile.capacity) (eq true $profile.spot_choice) -}}
{{- $arch := default "amd64" (get (default dict $profile.node_selector) "kubernetes.io/arch") -}}
{{- range $key, $values := dict "karpenter.sh/capacity-type" (get $buys $capacity) "kubernetes.io/arch" (list $arch) -}}
{{- if not (include "gpu-launcher.offered" (dict "requirements" $.requirements "key" $key "values" $values)) -}}
{{- fail (printf "settings.profiles: %s wants %s %s, which nodePools.%s.requirements do not offer; add it there, change the profile, or bring a NodePool of your own and set nodePools.%s.create=false" $profile.id $key (join " or " $values) $.name $.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Those of the values that the requirements leave for the label; nothing if none. */}}
{{- define "gpu-launcher.offered" -}}
{{- range $value := .values -}}
{{- $left := true -}}
{{- range $.requirements -}}
{{- if and (eq .key $.key) (has .operator (list "In" "NotIn")) (ne (has $value .values) (eq .operator "In")) -}}
{{- $left = false -}}
{{- end -}}
{{- end -}}
{{- if $left }}{{ $value }} {{ end -}}
{{- end -}}
{{- end -}}

{{/* nodeClassRef of both NodePools. */}}
{{- define "gpu-launcher.nodeClassRef" -}}
{{- $class := .Values.nodeClass -}}
{{- $groups := dict "EC2NodeClass" "karpenter.k8s.aws" "KWOKNodeClass" "karpenter.kwok.sh" -}}
group: {{ default (get $groups $class.kind) $class.group | required "nodeClass.group: name the API group of this nodeClass.kind" }}
kind: {{ $class.kind }}
name: {{ include "gpu-launcher.nodeClassName" . }}
{{- end -}}

{{- define "gpu-launcher.nodeClassName" -}}
{{- $class := .Values.nodeClass -}}
{{- if $class.create -}}
{{- default (include "gpu-launcher.fullname" .) $class.name -}}
{{- else -}}
{{- required "nodeClass.name: name an existing node class, or set nodeClass.create=true" $class.name -}}
{{- end -}}
{{- end -}}
