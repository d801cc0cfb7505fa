{{- /* The variables of the agent and of its children: what the chart decides, then what is set. */}}
{{- define "tendril.env" -}}
- name: TENDRIL_CLUSTER_ID
  value: {{ required "cluster.id is not set: the UUID that registering the cluster printed" .Values.cluster.id | quote }}
- name: SUPABASE_URL
  value: {{ required "controlPlane.url is not set: the base URL of the Supabase project" .Values.controlPlane.url | quote }}
- name: TENDRIL_API_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "tendril.secretName" . }}
      key: {{ .Values.secretKeys.token }}
- name: SUPABASE_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "tendril.secretName" . }}
      key: {{ .Values.secretKeys.apiKey }}
- name: TENDRIL_STATE_DIR
  value: {{ printf "%s/agent" .Values.state.mountPath | quote }}
- name: TENDRIL_GRACE_S
  value: {{ sub (int .Values.terminationGracePeriodSeconds) 10 | quote }}
- name: TENDRIL_HEALTH_HOST
  value: {{ .Values.health.host | quote }}
- name: TENDRIL_HEALTH_PORT
  value: {{ include "tendril.text" .Values.health.port | quote }}
{{- if .Values.git.credentialsSecret }}
- name: TENDRIL_GIT_CREDENTIALS_FILE
  value: {{ printf "/etc/tendril/git/%s" .Values.git.credentialsKey | quote }}
{{- end }}
{{- if .Values.git.sshSecret }}
- name: TENDRIL_GIT_SSH_KEY_FILE
  value: {{ printf "/etc/tendril/ssh/%s" .Values.git.sshKeyKey | quote }}
- name: TENDRIL_GIT_KNOWN_HOSTS_FILE
  value: {{ printf "/etc/tendril/ssh/%s" .Values.git.knownHostsKey | quote }}
{{- end }}
{{- if .Values.terraform.pluginCache }}
- name: TENDRIL_PLUGIN_CACHE_DIR
  value: {{ printf "%s/plugins" .Values.state.mountPath | quote }}
{{- end }}
{{- if .Values.terraform.defaultBackend }}
- name: TENDRIL_DEFAULT_BACKEND_FILE
  value: /etc/tendril/files/backend.tf
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ include "tendril.text" $value | quote }}
{{- end }}
{{- end }}
{{- if .Values.terraform.cliConfigSecret }}
- name: TF_CLI_CONFIG_FILE
  value: {{ printf "/etc/tendril/terraform/%s" .Values.terraform.cliConfigKey | quote }}
{{- else if .Values.terraform.cliConfig }}
- name: TF_CLI_CONFIG_FILE
  value: /etc/tendril/files/terraform.rc
{{- end }}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret }}
{{- range $name := list "SSL_CERT_FILE" "GIT_SSL_CAINFO" "AWS_CA_BUNDLE" }}
- name: {{ $name }}
  value: {{ printf "/etc/tendril/ca/%s" $.Values.caBundle.key | quote }}
{{- end }}
{{- end }}
{{- if or .Values.proxy.http .Values.proxy.https }}
{{- range $name, $value := dict "HTTP_PROXY" .Values.proxy.http "HTTPS_PROXY" .Values.proxy.https "NO_PROXY" .Values.proxy.exclude }}
{{- if $value }}
- name: {{ $name }}
  value: {{ $value | quote }}
- name: {{ lower $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tendril.mounts" -}}
- name: state
  mountPath: {{ .Values.state.mountPath }}
- name: tmp
  mountPath: /tmp
{{- if .Values.git.credentialsSecret }}
- name: git
  mountPath: /etc/tendril/git
  readOnly: true
{{- end }}
{{- if .Values.git.sshSecret }}
- name: ssh
  mountPath: /etc/tendril/ssh
  readOnly: true
{{- end }}
{{- if .Values.terraform.cliConfigSecret }}
- name: terraform
  mountPath: /etc/tendril/terraform
  readOnly: true
{{- end }}
{{- if or .Values.terraform.cliConfig .Values.terraform.defaultBackend }}
- name: files
  mountPath: /etc/tendril/files
  readOnly: true
{{- end }}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret }}
- name: ca
  mountPath: /etc/tendril/ca
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* All volumes but that of the state, which a StatefulSet makes itself. 0440: readable by the agent's group. */}}
{{- define "tendril.volumes" -}}
- name: tmp
{{- if .Values.tmp.volume }}
  {{- toYaml .Values.tmp.volume | nindent 2 }}
{{- else }}
  emptyDir:
    {{- include "tendril.emptyDir" .Values.tmp | nindent 4 }}
{{- end }}
{{- range $name, $secret := dict "git" .Values.git.credentialsSecret "ssh" .Values.git.sshSecret "terraform" .Values.terraform.cliConfigSecret }}
{{- if $secret }}
- name: {{ $name }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- if or .Values.terraform.cliConfig .Values.terraform.defaultBackend }}
- name: files
  configMap:
    name: {{ include "tendril.fullname" . }}
{{- end }}
{{- if .Values.caBundle.configMap }}
- name: ca
  configMap:
    name: {{ .Values.caBundle.configMap }}
{{- else if .Values.caBundle.secret }}
- name: ca
  secret:
    secretName: {{ .Values.caBundle.secret }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tendril.emptyDir" -}}
{{- $wanted := dict }}
{{- range $name := list "sizeLimit" "medium" }}
{{- with get $ $name }}{{ $_ := set $wanted $name . }}{{ end }}
{{- end }}
{{- toYaml $wanted }}
{{- end }}

{{- /* OnRootMismatch: at each mount of a claim, Always would open the agent's private files to the group. */}}
{{- define "tendril.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tendril.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "tendril.podTemplate" -}}
metadata:
  labels:
    {{- include "tendril.agentLabels" . | nindent 4 }}
    app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
    {{- with mergeOverwrite (dict) .Values.commonLabels .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: tendril
    {{- /* Of the whole texts: the agent's credential is the sha256 of the token alone. */}}
    checksum/secret: {{ include (print .Template.BasePath "/secret.yaml") . | sha256sum }}
    checksum/files: {{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tendril.serviceAccountName" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "tendril.podSecurityContext" . | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: tendril
      image: {{ include "tendril.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run]
      env:
        {{- include "tendril.env" . | nindent 8 }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: health
          containerPort: {{ int .Values.health.port }}
      startupProbe:
        httpGet: {path: /livez, port: health}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 30
      livenessProbe:
        httpGet: {path: /livez, port: health}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: health}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 1
      securityContext:
        {{- include "tendril.securityContext" . | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        {{- include "tendril.mounts" . | nindent 8 }}
  volumes:
    {{- if not .Values.state.persistence.enabled }}
    - name: state
      emptyDir:
        {{- include "tendril.emptyDir" (pick .Values.state "sizeLimit") | nindent 8 }}
    {{- end }}
    {{- include "tendril.volumes" . | nindent 4 }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "tendril.agentLabels" . | nindent 10 }}
    {{- end }}
{{- end }}
