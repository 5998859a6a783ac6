"""What KubeRay's CRDs `RayJob` and `RayCluster` (ray.io/v1) allow, as far as our files go into it, as JSON schemas.

Written from the API reference of KubeRay v1.6.2: all fields of RayJobSpec, RayClusterSpec, HeadGroupSpec,
WorkerGroupSpec and AuthOptions by name, with the types of those that we use; of Kubernetes' own objects in them the
fields that we use, and of these no others, so that a slip in a name is refused where a cluster would drop it.
"""

TEXT, WHOLE, YES_NO, ANY = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$"}


def fields(required=(), others=(), **known):
    """An object with these fields; of ``others`` any value is allowed."""
    properties = {**known, **dict.fromkeys(others, ANY)}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def many(item):
    return {"type": "array", "items": item, "minItems": 1}


def texts_by(value=TEXT):
    return {"type": "object", "additionalProperties": value}


METADATA = fields(name=TEXT, namespace=TEXT, labels=texts_by(), annotations=texts_by())
RESOURCES = fields(requests=texts_by(QUANTITY), limits=texts_by(QUANTITY))
SECRET_KEY = fields(["name", "key"], name=TEXT, key=TEXT, optional=YES_NO)
ENVIRONMENT = fields(["name"], name=TEXT, value=TEXT, valueFrom=fields(secretKeyRef=SECRET_KEY))
CONTAINER = fields(
    ["name", "image"],
    name=TEXT,
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "Never", "IfNotPresent"]},
    env=many(ENVIRONMENT),
    securityContext=fields(
        privileged=YES_NO, allowPrivilegeEscalation=YES_NO, capabilities=fields(drop=many(TEXT), add=many(TEXT))
    ),
    resources=RESOURCES,
    volumeMounts=many(fields(["name", "mountPath"], name=TEXT, mountPath=TEXT)),
)
POD = fields(
    ["containers"],
    automountServiceAccountToken=YES_NO,
    hostNetwork=YES_NO,
    securityContext=fields(
        runAsNonRoot=YES_NO,
        runAsUser=WHOLE,
        runAsGroup=WHOLE,
        fsGroup=WHOLE,
        seccompProfile=fields(["type"], type={"enum": ["RuntimeDefault", "Unconfined", "Localhost"]}),
    ),
    containers=many(CONTAINER),
    volumes=many(fields(["name"], name=TEXT, persistentVolumeClaim=fields(["claimName"], claimName=TEXT))),
)
TEMPLATE = fields(["spec"], metadata=METADATA, spec=POD)
HEAD = fields(
    ["rayStartParams", "template"],
    ["headService", "ingressOptions", "resources", "labels"],
    rayStartParams=texts_by(),
    template=TEMPLATE,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    enableIngress=YES_NO,
)
WORKERS = fields(
    ["groupName", "rayStartParams", "template", "minReplicas", "maxReplicas"],
    ["suspend", "numOfHosts", "idleTimeoutSeconds", "resources", "labels", "scaleStrategy"],
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    rayStartParams=texts_by(),
    template=TEMPLATE,
)
CLUSTER = fields(
    ["headGroupSpec"],
    [
        "upgradeStrategy",
        "suspend",
        "managedBy",
        "autoscalerOptions",
        "headServiceAnnotations",
        "enableInTreeAutoscaling",
        "gcsFaultToleranceOptions",
    ],
    authOptions=fields(mode={"enum": ["disabled", "token"]}, secretName=TEXT, enableK8sTokenAuth=YES_NO),
    rayVersion=TEXT,
    headGroupSpec=HEAD,
    workerGroupSpecs=many(WORKERS),
)
JOB = fields(
    (),
    [
        "submitterPodTemplate",
        "metadata",
        "clusterSelector",
        "submitterConfig",
        "managedBy",
        "deletionStrategy",
        "runtimeEnvYAML",
        "jobId",
        "entrypointResources",
        "entrypointNumCpus",
        "entrypointNumGpus",
        "preRunningDeadlineSeconds",
        "suspend",
    ],
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit=WHOLE,
    rayClusterSpec=CLUSTER,
    entrypoint=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    ttlSecondsAfterFinished=WHOLE,
    shutdownAfterJobFinishes=YES_NO,
)


def _kind(name, version, spec):
    return fields(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": version},
        kind={"const": name},
        metadata={**METADATA, "required": ["name"]},
        spec=spec,
    )


LABELS = fields(matchLabels=texts_by())
PEER = fields(podSelector=LABELS, namespaceSelector=LABELS)
PORT = fields(["port"], protocol={"enum": ["TCP", "UDP"]}, port=WHOLE)
POLICY = fields(
    ["podSelector"],
    podSelector=LABELS,
    policyTypes=many({"enum": ["Ingress", "Egress"]}),
    ingress=many(fields(["from"], **{"from": many(PEER), "ports": many(PORT)})),
)
CLAIM = fields(["accessModes", "resources"], accessModes=many(TEXT), resources=RESOURCES, storageClassName=TEXT)

SCHEMAS = {
    "RayJob": _kind("RayJob", "ray.io/v1", JOB),
    "RayCluster": _kind("RayCluster", "ray.io/v1", CLUSTER),
    "NetworkPolicy": _kind("NetworkPolicy", "networking.k8s.io/v1", POLICY),
    "PersistentVolumeClaim": _kind("PersistentVolumeClaim", "v1", CLAIM),
}
