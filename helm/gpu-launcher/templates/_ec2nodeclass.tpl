{{/* "bottlerocket", "al2023" or "custom": from amiFamily, else from the alias. */}}
{{- define "gpu-launcher.amiFamily" -}}
{{- $aws := .Values.nodeClass.aws -}}
{{- $family := lower $aws.amiFamily -}}
{{- if not $family -}}
{{- range $aws.amiSelectorTerms }}{{ with .alias }}{{ $family = splitList "@" . | first | lower }}{{ end }}{{ end -}}
{{- end -}}
{{- required "nodeClass.aws.amiFamily: name the family (AL2023, Bottlerocket or Custom), or select the AMI by an alias" $family -}}
{{- end -}}

{{- define "gpu-launcher.ec2NodeClass" -}}
{{- $aws := .Values.nodeClass.aws -}}
{{- $disk := $aws.disk -}}
{{- $family := include "gpu-launcher.amiFamily" . -}}
{{- if and $disk.snapshotID (eq $family "al2023") (not $disk.deviceName) -}}
{{- fail "nodeClass.aws.disk.snapshotID: on AL2023 the images lie on the root disk, whose snapshot belongs to the AMI; use Bottlerocket, whose data disk is separate" -}}
{{- end -}}
{{- $cluster := default dict .Values.settings.cluster -}}
{{- $sized := default "200Gi" $cluster.disk -}}
{{- if and (not $aws.instanceStorePolicy) (ne (toString $sized) $disk.size) -}}
{{- fail (printf "nodeClass.aws.disk.size: is %s, but settings.cluster.disk, by which slots are divided, is %v; write the same size into both" $disk.size $sized) -}}
{{- end -}}
{{- if and $aws.parallelPull.enabled $aws.userData -}}
{{- fail "nodeClass.aws.userData: parallelPull.enabled writes userData itself; put both into your own userData and set parallelPull.enabled=false" -}}
{{- end -}}
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata:
  name: {{ include "gpu-launcher.nodeClassName" . }}
  labels:
    {{- include "gpu-launcher.labels" . | nindent 4 }}
    app.kubernetes.io/component: nodeclass
spec:
  {{- with $aws.role }}
  role: {{ . }}
  {{- end }}
  {{- with $aws.instanceProfile }}
  instanceProfile: {{ . }}
  {{- end }}
  {{- with $aws.amiFamily }}
  amiFamily: {{ . }}
  {{- end }}
  amiSelectorTerms:
    {{- toYaml $aws.amiSelectorTerms | nindent 4 }}
  subnetSelectorTerms:
    {{- toYaml $aws.subnetSelectorTerms | nindent 4 }}
  securityGroupSelectorTerms:
    {{- toYaml $aws.securityGroupSelectorTerms | nindent 4 }}
  {{- with $aws.capacityReservationSelectorTerms }}
  capacityReservationSelectorTerms:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  blockDeviceMappings:
    {{- if and (eq $family "bottlerocket") (not $disk.deviceName) }}
    # The system's own disk, as small as Karpenter's default; the one below holds images and scratch.
    - deviceName: /dev/xvda
      ebs:
        volumeSize: 4Gi
        volumeType: gp3
        encrypted: {{ $disk.encrypted }}
        deleteOnTermination: true
    {{- end }}
    - deviceName: {{ include "gpu-launcher.diskDevice" . }}
      ebs:
        volumeSize: {{ $disk.size }}
        volumeType: {{ $disk.type }}
        {{- with $disk.throughput }}
        throughput: {{ int64 . }}
        {{- end }}
        {{- with $disk.iops }}
        iops: {{ int64 . }}
        {{- end }}
        encrypted: {{ $disk.encrypted }}
        deleteOnTermination: true
        {{- with $disk.snapshotID }}
        snapshotID: {{ . }}
        {{- end }}
        {{- with $disk.snapshotInitializationRate }}
        volumeInitializationRate: {{ int64 . }}
        {{- end }}
  # One hop: a process in a pod does not reach the machine's credentials.
  metadataOptions:
    httpEndpoint: enabled
    httpPutResponseHopLimit: 1
    httpTokens: required
  {{- with $aws.instanceStorePolicy }}
  instanceStorePolicy: {{ . }}
  {{- end }}
  {{- with include "gpu-launcher.userData" . }}
  userData: |
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $aws.tags }}
  tags:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "gpu-launcher.diskDevice" -}}
{{- $family := include "gpu-launcher.amiFamily" . -}}
{{- $devices := dict "bottlerocket" "/dev/xvdb" "al2023" "/dev/xvda" "al2" "/dev/xvda" -}}
{{- default (get $devices $family) .Values.nodeClass.aws.disk.deviceName | required "nodeClass.aws.disk.deviceName: name the disk that holds the images; it is not known for this AMI family" -}}
{{- end -}}

{{- define "gpu-launcher.userData" -}}
{{- $aws := .Values.nodeClass.aws -}}
{{- $family := include "gpu-launcher.amiFamily" . -}}
{{- if not $aws.parallelPull.enabled -}}
{{- $aws.userData -}}
{{- else if eq $family "bottlerocket" -}}
[settings.container-runtime]
snapshotter = "soci"

[settings.container-runtime-plugins.soci-snapshotter]
pull-mode = "parallel-pull-unpack"

[settings.container-runtime-plugins.soci-snapshotter.parallel-pull-unpack]
max-concurrent-downloads-per-image = {{ int64 $aws.parallelPull.downloadsPerImage }}
concurrent-download-chunk-size = "16mb"
max-concurrent-unpacks-per-image = {{ int64 $aws.parallelPull.unpacksPerImage }}
discard-unpacked-layers = true
{{- else if eq $family "al2023" -}}
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  featureGates:
    FastImagePull: true
{{- else -}}
{{- fail "nodeClass.aws.parallelPull.enabled: known for AL2023 and Bottlerocket only; for another AMI family write nodeClass.aws.userData" -}}
{{- end -}}
{{- end -}}
