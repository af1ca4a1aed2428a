{{/* The operator's settings. A list that is empty is left out: the operator has its own default, and no list is not the
same as a list of one empty word. */}}
{{- define "portcullis.env" -}}
{{- $selector := include "portcullis.selectorLabels" . | fromYaml -}}
{{- $labels := list -}}
{{- range $key, $value := $selector }}{{ $labels = append $labels (printf "%s=%s" $key $value) }}{{ end -}}
- name: PORTCULLIS_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: PORTCULLIS_OPERATOR_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: PORTCULLIS_OPERATOR_POD_LABELS
  value: {{ join "," $labels | quote }}
- name: PORTCULLIS_SERVICE_ACCOUNT
  valueFrom:
    fieldRef:
      fieldPath: spec.serviceAccountName
- name: PORTCULLIS_LEASE_NAME
  value: {{ include "portcullis.operator" . }}
- name: PORTCULLIS_LEASE_DURATION
  value: {{ .Values.leaderElection.leaseDuration }}
- name: PORTCULLIS_LEASE_RENEW_DEADLINE
  value: {{ .Values.leaderElection.renewDeadline }}
- name: PORTCULLIS_LEASE_RETRY_PERIOD
  value: {{ .Values.leaderElection.retryPeriod }}
- name: PORTCULLIS_LOG
  value: {{ .Values.log.level | quote }}
- name: PORTCULLIS_LOG_FORMAT
  value: {{ .Values.log.format }}
- name: PORTCULLIS_GATEWAY_IMAGE
  value: {{ include "portcullis.image" (dict "image" .Values.gateway.image "registry" .Values.image.registry "version" .Chart.AppVersion) }}
- name: PORTCULLIS_CLUSTER_DOMAIN
  value: {{ .Values.cluster.domain }}
{{- with .Values.cluster.podCIDRs }}
- name: PORTCULLIS_POD_CIDRS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.cluster.serviceCIDRs }}
- name: PORTCULLIS_SERVICE_CIDRS
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.cluster.apiServerCIDRs }}
- name: PORTCULLIS_API_SERVER_CIDRS
  value: {{ join "," . | quote }}
{{- end }}
{{- if .Values.cluster.userNamespaces }}
- name: PORTCULLIS_USER_NAMESPACES
  value: "true"
{{- end }}
- name: PORTCULLIS_DNS_PEERS
  value: {{ toJson .Values.dns.peers | quote }}
- name: PORTCULLIS_DNS_PORTS
  value: {{ join "," .Values.dns.ports | quote }}
{{- with .Values.monitoring.peers }}
- name: PORTCULLIS_MONITORING_PEERS
  value: {{ toJson . | quote }}
{{- end }}
{{- if not .Values.fenceProbe.enabled }}
- name: PORTCULLIS_NO_FENCE_PROBE
  value: "true"
{{- else if .Values.fenceProbe.address }}
- name: PORTCULLIS_FENCE_PROBE
  value: {{ .Values.fenceProbe.address | quote }}
{{- end }}
{{- end -}}
