//! The running instances of every service, and the resource attributes each sends.

use crate::attribute::{boolean, int, text, texts};
use crate::problems::Plan;
use crate::randomness::{Purpose, stream};
use crate::rhythm::SECOND;
use crate::shop::scopes::sdk_of;
use crate::shop::services::SERVICES;
use crate::shop::{Platform, Service, ServiceId};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use rand::Rng;
use rand::rngs::StdRng;

/// The host whose clock is off.
pub const SKEWED_HOST: &str = "ip-10-42-7-113.eu-central-1.compute.internal";
/// One instance of each of these runs there.
const ON_SKEWED_HOST: [(ServiceId, u8); 2] = [(ServiceId::Inventory, 1), (ServiceId::Shipping, 2)];

/// The service whose new release is slow, and that release's version.
pub const RELEASED_SERVICE: ServiceId = ServiceId::Pricing;
pub const RELEASED_VERSION: &str = "3.9.0";
/// Instances are replaced one after the other, this far apart.
const ROLLOUT_STEP: u64 = 5 * SECOND;

const HOSTS: [(&str, &str); 6] = [
    ("ip-10-42-3-21.eu-central-1.compute.internal", "eu-central-1a"),
    ("ip-10-42-3-188.eu-central-1.compute.internal", "eu-central-1a"),
    ("ip-10-42-5-64.eu-central-1.compute.internal", "eu-central-1b"),
    ("ip-10-42-5-209.eu-central-1.compute.internal", "eu-central-1b"),
    ("ip-10-42-7-40.eu-central-1.compute.internal", "eu-central-1c"),
    ("ip-10-42-7-152.eu-central-1.compute.internal", "eu-central-1c"),
];

const BROWSERS: [(&str, &str, &str, bool); 5] = [
    (
        "Google Chrome 141",
        "Windows",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        false,
    ),
    (
        "Safari 26",
        "macOS",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
        false,
    ),
    (
        "Google Chrome 141",
        "Android",
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
        true,
    ),
    (
        "Safari 26",
        "iOS",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1",
        true,
    ),
    ("Firefox 144", "Linux", "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", false),
];
const LANGUAGES: [&str; 5] = ["de-DE", "fr-FR", "sv-SE", "nl-NL", "en-GB"];
const PHONES: [(&str, &str); 3] = [("iPhone17,1", "26.0.1"), ("iPhone15,4", "18.6.2"), ("iPhone14,5", "18.6")];
const POD_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Index of a member in the fleet.
pub type MemberId = usize;

/// One process (or its mesh proxy) that sends spans under one resource.
pub struct Member {
    pub service: &'static Service,
    pub resource: Resource,
    /// Pod or device address.
    pub address: String,
    /// What this member's own requests say they are.
    pub user_agent: String,
    /// How far its clock is ahead, in nanoseconds.
    pub skew_nanos: i64,
    /// Runs the slow release.
    pub slow_release: bool,
    pub sidecar: Option<MemberId>,
}

/// All members, and which of them answer for a service.
pub struct Fleet {
    members: Vec<Member>,
    /// By service: its instances; the new release's are listed apart.
    instances: Vec<Vec<MemberId>>,
    released: Vec<MemberId>,
    release_at: u64,
}

impl Fleet {
    pub fn new(seed: u64, plan: &Plan) -> Fleet {
        let mut fleet =
            Fleet { members: Vec::new(), instances: Vec::new(), released: Vec::new(), release_at: plan.release_at };
        for service in &SERVICES {
            let mut rng = stream(seed, Purpose::Fleet, service.id as u64);
            let ids = fleet.start_all(service, service.version, plan, &mut rng);
            fleet.instances.push(ids);
        }
        let service = Service::of(RELEASED_SERVICE);
        let mut rng = stream(seed, Purpose::Fleet, SERVICES.len() as u64);
        fleet.released = fleet.start_all(service, RELEASED_VERSION, plan, &mut rng);
        fleet
    }

    pub fn member(&self, id: MemberId) -> &Member {
        &self.members[id]
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// An instance of `service` that is up at `at`.
    pub fn pick(&self, service: ServiceId, at: u64, rng: &mut StdRng) -> MemberId {
        let instances = &self.instances[service as usize];
        let instance = rng.random_range(0..instances.len());
        let replaced_at = self.release_at + instance as u64 * ROLLOUT_STEP;
        if service == RELEASED_SERVICE && at >= replaced_at {
            return self.released[instance];
        }
        instances[instance]
    }

    fn start_all(
        &mut self,
        service: &'static Service,
        version: &'static str,
        plan: &Plan,
        rng: &mut StdRng,
    ) -> Vec<MemberId> {
        let replica_set = pod_suffix(10, rng);
        (0..service.instances)
            .map(|instance| {
                let birth = Birth { service, version, instance, replica_set: &replica_set, plan };
                self.start(&birth, rng)
            })
            .collect()
    }

    fn start(&mut self, birth: &Birth, rng: &mut StdRng) -> MemberId {
        let member = match birth.service.platform {
            Platform::Device => device(birth, rng),
            Platform::Lambda => lambda(birth, rng),
            Platform::Kubernetes => pod(birth, rng),
        };
        let sidecar = birth.service.sidecar.then(|| self.add(proxy_of(&member)));
        self.add(Member { sidecar, ..member })
    }

    fn add(&mut self, member: Member) -> MemberId {
        self.members.push(member);
        self.members.len() - 1
    }
}

/// What an instance is started with.
struct Birth<'a> {
    service: &'static Service,
    version: &'static str,
    instance: u8,
    replica_set: &'a str,
    plan: &'a Plan,
}

fn pod(birth: &Birth, rng: &mut StdRng) -> Member {
    let Birth { service, version, instance, .. } = *birth;
    let skewed = ON_SKEWED_HOST.contains(&(service.id, instance));
    let (host, zone) = if skewed {
        (SKEWED_HOST, "eu-central-1c")
    } else {
        HOSTS[(service.id as usize * 5 + usize::from(instance)) % HOSTS.len()]
    };
    let address = format!("10.42.{}.{}", rng.random_range(16..64), rng.random_range(2..254));
    let pod_name = format!("{}-{}-{}", service.name, birth.replica_set, pod_suffix(5, rng));
    let mut attributes = common(service, version, &uuid(rng));
    attributes.extend([
        text("k8s.cluster.name", "aurora-prod-eu1"),
        text("k8s.namespace.name", service.namespace),
        text("k8s.deployment.name", service.name),
        text("k8s.pod.name", pod_name),
        text("k8s.pod.uid", uuid(rng)),
        text("k8s.pod.ip", address.clone()),
        text("k8s.node.name", host),
        text("k8s.container.name", service.name),
        text("container.id", format!("{:032x}{:032x}", rng.random::<u128>(), rng.random::<u128>())),
        text("host.name", host),
        text("host.arch", "arm64"),
        text("os.type", "linux"),
        text("cloud.provider", "aws"),
        text("cloud.platform", "aws_eks"),
        text("cloud.region", "eu-central-1"),
        text("cloud.availability_zone", zone),
    ]);
    attributes.extend(process(service, rng));
    Member {
        service,
        resource: Resource { attributes, ..Default::default() },
        address,
        user_agent: user_agent_of(service).to_owned(),
        skew_nanos: if skewed { birth.plan.skew_nanos } else { 0 },
        slow_release: version == RELEASED_VERSION && service.id == RELEASED_SERVICE,
        sidecar: None,
    }
}

fn lambda(birth: &Birth, rng: &mut StdRng) -> Member {
    let service = birth.service;
    let instance = format!("2025/11/20/[$LATEST]{:032x}", rng.random::<u128>());
    let mut attributes = common(service, birth.version, &instance);
    attributes.extend([
        text("faas.name", service.name),
        text("faas.version", "$LATEST"),
        text("faas.instance", instance),
        int("faas.max_memory", 1_073_741_824_i64),
        text("cloud.provider", "aws"),
        text("cloud.platform", "aws_lambda"),
        text("cloud.region", "eu-central-1"),
        text("cloud.account.id", "123456789012"),
        text("cloud.resource_id", format!("arn:aws:lambda:eu-central-1:123456789012:function:{}", service.name)),
    ]);
    attributes.extend(process(service, rng));
    Member {
        service,
        resource: Resource { attributes, ..Default::default() },
        address: format!("10.60.{}.{}", rng.random_range(0..16), rng.random_range(2..254)),
        user_agent: user_agent_of(service).to_owned(),
        skew_nanos: 0,
        slow_release: false,
        sidecar: None,
    }
}

fn device(birth: &Birth, rng: &mut StdRng) -> Member {
    let service = birth.service;
    let mut attributes = common(service, birth.version, &uuid(rng));
    let user_agent = if service.id == ServiceId::MobileApp {
        let (model, os) = PHONES[usize::from(birth.instance) % PHONES.len()];
        attributes.extend([
            text("device.manufacturer", "Apple"),
            text("device.model.identifier", model),
            text("os.type", "darwin"),
            text("os.name", "iOS"),
            text("os.version", os),
        ]);
        format!("AuroraGoods/{} ({model}; iOS {os}) CFNetwork/3826", birth.version)
    } else {
        let (brand, platform, user_agent, mobile) = BROWSERS[usize::from(birth.instance) % BROWSERS.len()];
        attributes.extend([
            texts("browser.brands", &[brand, "Not?A_Brand 8"]),
            text("browser.platform", platform),
            text("browser.language", LANGUAGES[rng.random_range(0..LANGUAGES.len())]),
            boolean("browser.mobile", mobile),
            text("user_agent.original", user_agent),
        ]);
        user_agent.to_owned()
    };
    Member {
        service,
        resource: Resource { attributes, ..Default::default() },
        address: format!("203.0.113.{}", rng.random_range(1..255)),
        user_agent,
        skew_nanos: 0,
        slow_release: false,
        sidecar: None,
    }
}

/// The mesh proxy in the same pod: same service and pod, another container and SDK.
fn proxy_of(app: &Member) -> Member {
    let keep = ["service.name", "service.namespace", "deployment.environment.name"];
    let mut attributes: Vec<KeyValue> = app
        .resource
        .attributes
        .iter()
        .filter(|attribute| keep.contains(&attribute.key.as_str()) || attribute.key.starts_with("k8s."))
        .filter(|attribute| attribute.key != "k8s.container.name")
        .cloned()
        .collect();
    attributes.extend([
        text("k8s.container.name", "istio-proxy"),
        text("telemetry.sdk.language", "cpp"),
        text("telemetry.sdk.name", "envoy"),
        text("telemetry.sdk.version", "1.35.3"),
    ]);
    attributes.extend(app.resource.attributes.iter().filter(|attribute| attribute.key == "host.name").cloned());
    Member {
        service: app.service,
        resource: Resource { attributes, ..Default::default() },
        address: app.address.clone(),
        user_agent: app.user_agent.clone(),
        skew_nanos: app.skew_nanos,
        slow_release: false,
        sidecar: None,
    }
}

fn common(service: &Service, version: &str, instance_id: &str) -> Vec<KeyValue> {
    let sdk = sdk_of(service.language);
    let mut attributes = vec![
        text("service.name", service.name),
        text("service.namespace", service.namespace),
        text("service.version", version),
        text("service.instance.id", instance_id),
        text("deployment.environment.name", "production"),
        text("telemetry.sdk.language", sdk.language),
        text("telemetry.sdk.name", "opentelemetry"),
        text("telemetry.sdk.version", sdk.version),
    ];
    if let Some((name, version)) = sdk.distribution {
        attributes.extend([text("telemetry.distro.name", name), text("telemetry.distro.version", version)]);
    }
    attributes
}

fn process(service: &Service, rng: &mut StdRng) -> Vec<KeyValue> {
    let sdk = sdk_of(service.language);
    let mut attributes = vec![
        int("process.pid", if rng.random_bool(0.8) { 1 } else { rng.random_range(7..60_i64) }),
        text("process.executable.path", sdk.executable),
    ];
    if !sdk.runtime.is_empty() {
        attributes
            .extend([text("process.runtime.name", sdk.runtime), text("process.runtime.version", sdk.runtime_version)]);
    }
    attributes
}

fn user_agent_of(service: &Service) -> &'static str {
    use crate::shop::Language::*;
    match service.language {
        Go => "Go-http-client/1.1",
        Java => "Java-http-client/21.0.8",
        Node => "undici",
        Python => "python-httpx/0.28.1",
        DotNet => "Aurora.Http/6.0",
        Ruby => "Faraday v2.13.4",
        Php => "GuzzleHttp/7",
        Rust => "reqwest/0.12",
        Elixir => "req/0.5.15",
        Browser | Swift => "",
    }
}

fn pod_suffix(length: usize, rng: &mut StdRng) -> String {
    (0..length).map(|_| char::from(POD_ALPHABET[rng.random_range(0..POD_ALPHABET.len())])).collect()
}

/// A random (version 4) UUID.
pub fn uuid(rng: &mut StdRng) -> String {
    let bits = rng.random::<u128>();
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let digits = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}
