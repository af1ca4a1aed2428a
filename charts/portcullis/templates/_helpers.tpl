{{/* Prefix of all names: the release's name, with the chart's unless it is part of it already. */}}
{{- define "portcullis.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of the operator's Deployment, ServiceAccount, roles, policies and Lease. */}}
{{- define "portcullis.operator" -}}
{{- include "portcullis.fullname" . }}-operator
{{- end -}}

{{/* What selects the operator's pods. Never changes: a Deployment's selector is immutable, and gateways know the
operator by these. */}}
{{- define "portcullis.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of all objects. managed-by is never "portcullis": that is how the operator knows what it made itself. */}}
{{- define "portcullis.labels" -}}
{{ include "portcullis.selectorLabels" . }}
app.kubernetes.io/part-of: portcullis
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image's name. Takes image, registry (used where the image has none) and version (used where it has no tag). */}}
{{- define "portcullis.image" -}}
{{- with (default .registry .image.registry) }}{{ . }}/{{ end -}}
{{- .image.repository }}:{{ default .version .image.tag }}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* The account by which the API server knows the operator. */}}
{{- define "portcullis.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "portcullis.operator" . }}
{{- end -}}

{{/* Seconds of a duration such as 1m, 30s or 1500ms, as milliseconds. */}}
{{- define "portcullis.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 -}}
{{- mul (regexFind "^[0-9]+" .) (get $units (regexFind "[a-z]+$" .)) -}}
{{- end -}}
