//! Messages, servers and clients of the gRPC interfaces of others, made from the files in `proto/`.

/// Grafana Tempo's.
pub mod tempopb {
    tonic::include_proto!("tempopb");
}

/// Jaeger's.
pub mod jaeger {
    tonic::include_proto!("jaeger.api_v3");
}

/// How messages are written as JSON where serde doesn't do it by itself (protobuf's JSON mapping).
pub(crate) mod json {
    use std::fmt::Display;

    use opentelemetry_proto::tonic::common::v1::KeyValue;
    use serde::{Serialize, Serializer};
    use serde_json::value::RawValue;

    use super::tempopb::PartialStatus;
    use crate::json::Double;
    use tracehouse_otlp::encode::json::value_json;

    /// 64-bit integers, which JavaScript's numbers can't hold.
    pub(crate) fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn double<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Double(*value).serialize(serializer)
    }

    pub(crate) fn attributes<S: Serializer>(attributes: &[KeyValue], serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Attribute<'a> {
            key: &'a str,
            value: Option<Box<RawValue>>,
        }
        serializer.collect_seq(
            attributes
                .iter()
                .map(|attribute| Attribute { key: &attribute.key, value: attribute.value.as_ref().map(value_json) }),
        )
    }

    pub(crate) fn status<S: Serializer>(status: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        let known = PartialStatus::try_from(*status).unwrap_or_default();
        serializer.serialize_str(known.as_str_name())
    }

    pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
        *value == T::default()
    }
}
