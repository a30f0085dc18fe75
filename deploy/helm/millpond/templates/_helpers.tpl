{{- define "millpond.name" -}}
{{- if contains "millpond" .Release.Name -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-millpond" (.Release.Name | trunc 40 | trimSuffix "-") }}
{{- end -}}
{{- end -}}

{{- define "millpond.selector" -}}
app.kubernetes.io/name: millpond
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "millpond.labels" -}}
{{ include "millpond.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* Whether pods have volumes of their own. */ -}}
{{- define "millpond.stateful" -}}
{{- if has .Values.broker.kind (list "embedded" "cluster") }}yes{{ end -}}
{{- end -}}

{{- /* What would not work is an error here. */ -}}
{{- define "millpond.check" -}}
{{- $b := .Values.broker -}}
{{- if and (has $b.kind (list "memory" "embedded")) (or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled) }}
{{- fail (printf "broker.kind %s is for one pod: publications would reach only the clients of the pod that was asked" $b.kind) }}
{{- end }}
{{- if and (eq $b.kind "cluster") (not (has (int .Values.replicas) (list 3 5))) }}
{{- fail "broker.kind cluster wants replicas of 3 or 5: most of them must be up" }}
{{- end }}
{{- if and (eq $b.kind "cluster") .Values.autoscaling.enabled }}
{{- fail "broker.kind cluster cannot be scaled by itself, for its pods have the histories: take nats" }}
{{- end }}
{{- if and (eq $b.kind "nats") (not $b.urls) }}
{{- fail "broker.kind nats wants broker.urls" }}
{{- end }}
{{- end -}}

{{- define "millpond.pod" -}}
metadata:
  labels:
    {{- include "millpond.selector" . | nindent 4 }}
  annotations:
    checksum/config: {{ .Values.config | toYaml | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Longer than the drain, --close-timeout (5 s) and 5 s for handlers together.
  terminationGracePeriodSeconds: {{ add (int .Values.drain.timeout) 20 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
    {{- with .Values.sysctls }}
    sysctls:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "millpond.selector" . | nindent 10 }}
  containers:
    - name: millpond
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        - --config=/etc/millpond/millpond.yaml
        - --listen=:8000
        - --internal-listen=:8001
        - --token-hmac-secret-file=/run/secrets/millpond/token.secret
        - --api-key-file=/run/secrets/millpond/api.keys
        - --log-format=json
        - --drain-grace={{ .Values.drain.grace }}s
        - --drain-timeout={{ .Values.drain.timeout }}s
        - --drain-rate={{ .Values.drain.rate }}
        {{- if include "millpond.stateful" . }}
        - --nats-embedded
        - --data-dir=/var/lib/millpond
        {{- end }}
        {{- if eq .Values.broker.kind "cluster" }}
        - --node-name=$(POD_NAME)
        - --cluster-name={{ include "millpond.name" . }}
        - --cluster-listen=:6222
        - --cluster-advertise=$(POD_NAME).{{ include "millpond.name" . }}-nodes:6222
        - --cluster-routes={{ range $i := until (int .Values.replicas) }}{{ if $i }},{{ end }}{{ include "millpond.name" $ }}-{{ $i }}.{{ include "millpond.name" $ }}-nodes:6222{{ end }}
        - --cluster-credentials-file=/run/secrets/millpond/cluster.credentials
        {{- end }}
        {{- if eq .Values.broker.kind "nats" }}
        - --node-name=$(POD_NAME)
        {{- range .Values.broker.urls }}
        - --nats-url={{ . }}
        {{- end }}
        {{- with .Values.broker.auth }}
        - --{{ . }}=/run/secrets/millpond/{{ . }}
        {{- end }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
      ports:
        - {name: clients, containerPort: 8000}
        - {name: internal, containerPort: 8001}
        {{- if eq .Values.broker.kind "cluster" }}
        - {name: cluster, containerPort: 6222}
        {{- end }}
      # The start may wait for JetStream, and read histories from the disk.
      startupProbe:
        httpGet: {path: /healthz, port: internal}
        periodSeconds: 2
        failureThreshold: 90
      livenessProbe:
        httpGet: {path: /healthz, port: internal}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: internal}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 1
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/millpond, readOnly: true}
        - {name: secrets, mountPath: /run/secrets/millpond, readOnly: true}
        {{- if include "millpond.stateful" . }}
        - {name: data, mountPath: /var/lib/millpond}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "millpond.name" . }}}
    - name: secrets
      secret: {secretName: {{ .Values.existingSecret }}, defaultMode: 0440}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
