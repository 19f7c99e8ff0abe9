{{- /* Names, labels and choices that more than one template needs. */ -}}

{{- define "clickstream.name" -}}
{{- if contains "clickstream" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-clickstream" (.Release.Name | trunc 40 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "clickstream.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: clickstream
{{- end }}

{{- define "clickstream.operator.selector" -}}
app.kubernetes.io/name: clickstream-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "clickstream.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "clickstream.name" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "clickstream.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ printf "%s@%s" $image.repository $image.digest }}
{{- else }}{{ printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) }}{{ end }}
{{- end }}

{{- /* The namespaces that are watched, as a JSON list; empty for all. */ -}}
{{- define "clickstream.namespaces" -}}
{{- if .Values.watch.allNamespaces }}[]
{{- else if .Values.watch.namespaces }}{{ .Values.watch.namespaces | uniq | sortAlpha | toJson }}
{{- else }}{{ list .Release.Namespace | toJson }}{{ end }}
{{- end }}

{{- /* Takes {root, wanted, kind}: "yes" where wanted is true, or auto and the cluster knows the kind. */ -}}
{{- define "clickstream.monitoring" -}}
{{- $known := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
{{- if or (eq (toString .wanted) "true") (and (eq (toString .wanted) "auto") $known) }}yes{{ end }}
{{- end }}

{{- /* Whether the operator makes these for each pipeline. */ -}}
{{- define "clickstream.pipelineMonitors" -}}
{{- include "clickstream.monitoring" (dict "root" . "wanted" .Values.monitoring.pipelineMonitors "kind" "PodMonitor") }}
{{- end }}
{{- define "clickstream.pipelineRules" -}}
{{- include "clickstream.monitoring" (dict "root" . "wanted" .Values.monitoring.pipelineRules "kind" "PrometheusRule") }}
{{- end }}

{{- /* Whether the operator may make resources of Couchbase's own operator. */ -}}
{{- define "clickstream.couchbaseOperator" -}}
{{- $known := .Capabilities.APIVersions.Has "couchbase.com/v2/CouchbaseBucket" -}}
{{- $wanted := toString .Values.couchbaseOperator -}}
{{- if or (eq $wanted "true") (and (eq $wanted "auto") $known) }}yes{{ end }}
{{- end }}

{{- /* What the restricted pod security standard asks of a container, and a root file system that cannot be written. */ -}}
{{- define "clickstream.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "clickstream.user" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* The account's token, for a pod that asks the API server: short-lived, and the pod's own. */ -}}
{{- define "clickstream.token" -}}
name: token
projected:
  defaultMode: 0440
  sources:
  - serviceAccountToken: {path: token, expirationSeconds: 3607}
  - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
  - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
