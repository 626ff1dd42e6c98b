/** The words of TraceQL, with what they do. The server's `crates/traceql` decides; these lists serve completion. */

export interface Term {
	label: string;
	/** What it does, in a few words. */
	does: string;
	/** What to insert, with `#` where the cursor goes; the label itself when absent. */
	template?: string;
}

/** Fields every span has, by the short spelling where there is one. */
export const INTRINSICS: readonly Term[] = [
	{ label: 'name', does: 'span name' },
	{ label: 'duration', does: 'end minus start of the span' },
	{ label: 'status', does: 'error, ok or unset' },
	{ label: 'statusMessage', does: 'message of the status' },
	{ label: 'kind', does: 'server, client, internal, …' },
	{ label: 'childCount', does: 'number of direct children' },
	{ label: 'rootName', does: 'name of the root span' },
	{ label: 'rootServiceName', does: 'service of the root span' },
	{ label: 'traceDuration', does: 'duration of the whole trace' },
	{ label: 'parent', does: 'the parent span; compare it with nil' },
	{ label: 'nestedSetLeft', does: 'entry number in a walk of the trace' },
	{ label: 'nestedSetRight', does: 'exit number in a walk of the trace' },
	{ label: 'nestedSetParent', does: 'the parent’s entry number; negative for a root' },
	{ label: 'span:name', does: 'span name' },
	{ label: 'span:duration', does: 'end minus start of the span' },
	{ label: 'span:status', does: 'error, ok or unset' },
	{ label: 'span:statusMessage', does: 'message of the status' },
	{ label: 'span:kind', does: 'server, client, internal, …' },
	{ label: 'span:id', does: 'span id, lower-case hexadecimal' },
	{ label: 'span:parentID', does: 'span id of the parent' },
	{ label: 'span:childCount', does: 'number of direct children' },
	{ label: 'trace:id', does: 'trace id, lower-case hexadecimal' },
	{ label: 'trace:duration', does: 'duration of the whole trace' },
	{ label: 'trace:rootName', does: 'name of the root span' },
	{ label: 'trace:rootService', does: 'service of the root span' },
	{ label: 'event:name', does: 'name of an event' },
	{ label: 'event:timeSinceStart', does: 'event’s time minus its span’s start' },
	{ label: 'link:traceID', does: 'trace id of a link' },
	{ label: 'link:spanID', does: 'span id of a link' },
	{ label: 'instrumentation:name', does: 'instrumentation scope' },
	{ label: 'instrumentation:version', does: 'version of the instrumentation scope' }
];

/** What stands before the dot of an attribute. */
export const SCOPES: readonly Term[] = [
	{ label: 'span.', does: 'attributes of the span' },
	{ label: 'resource.', does: 'attributes of the resource' },
	{ label: 'event.', does: 'attributes of events' },
	{ label: 'link.', does: 'attributes of links' },
	{ label: 'instrumentation.', does: 'attributes of the instrumentation scope' },
	{ label: 'parent.', does: 'attributes of the parent span' }
];

export const STATUS_WORDS = ['error', 'ok', 'unset'] as const;
export const KIND_WORDS = ['server', 'client', 'internal', 'producer', 'consumer', 'unspecified'] as const;

/** Which words a field is compared with, by either spelling. */
export const WORDS_OF_FIELD: Readonly<Record<string, readonly string[]>> = {
	status: STATUS_WORDS,
	'span:status': STATUS_WORDS,
	kind: KIND_WORDS,
	'span:kind': KIND_WORDS,
	parent: ['nil']
};

export const METRICS_FUNCTIONS: readonly Term[] = [
	{ label: 'rate', does: 'spans per second', template: 'rate()#' },
	{ label: 'count_over_time', does: 'number of spans in each step', template: 'count_over_time()#' },
	{
		label: 'quantile_over_time',
		does: 'quantiles of a field',
		template: 'quantile_over_time(duration, #.5, .95, .99)'
	},
	{ label: 'avg_over_time', does: 'average of a field', template: 'avg_over_time(#)' },
	{ label: 'min_over_time', does: 'smallest value of a field', template: 'min_over_time(#)' },
	{ label: 'max_over_time', does: 'largest value of a field', template: 'max_over_time(#)' },
	{ label: 'sum_over_time', does: 'sum of a field', template: 'sum_over_time(#)' },
	{ label: 'histogram_over_time', does: 'distribution of a field, as a heatmap', template: 'histogram_over_time(#)' },
	{ label: 'compare', does: 'what sets these spans apart from the rest', template: 'compare({ # })' }
];

export const RANK_FUNCTIONS: readonly Term[] = [
	{ label: 'topk', does: 'keep the largest series of each step', template: 'topk(#10)' },
	{ label: 'bottomk', does: 'keep the smallest series of each step', template: 'bottomk(#10)' }
];

export const AGGREGATES: readonly Term[] = [
	{ label: 'count', does: 'number of spans', template: 'count() > #' },
	{ label: 'avg', does: 'average of a field', template: 'avg(#)' },
	{ label: 'min', does: 'smallest value of a field', template: 'min(#)' },
	{ label: 'max', does: 'largest value of a field', template: 'max(#)' },
	{ label: 'sum', does: 'sum of a field', template: 'sum(#)' }
];

export const STAGES: readonly Term[] = [
	{ label: 'by', does: 'group the spans of each trace', template: 'by(#)' },
	{ label: 'select', does: 'return these fields of each span', template: 'select(#)' },
	{ label: 'coalesce', does: 'undo the grouping', template: 'coalesce()#' }
];

export const COMPARISONS: readonly Term[] = [
	{ label: '=', does: 'equals' },
	{ label: '!=', does: 'does not equal' },
	{ label: '=~', does: 'matches a regular expression' },
	{ label: '!~', does: 'matches no regular expression' },
	{ label: '>', does: 'greater' },
	{ label: '>=', does: 'greater or equal' },
	{ label: '<', does: 'less' },
	{ label: '<=', does: 'less or equal' }
];

export const LOGIC: readonly Term[] = [
	{ label: '&&', does: 'and' },
	{ label: '||', does: 'or' }
];

export const RELATIONS: readonly Term[] = [
	{ label: '>>', does: 'descendants on the right', template: '>> { # }' },
	{ label: '>', does: 'children on the right', template: '> { # }' },
	{ label: '<<', does: 'ancestors on the right', template: '<< { # }' },
	{ label: '<', does: 'parents on the right', template: '< { # }' },
	{ label: '~', does: 'siblings on the right', template: '~ { # }' },
	{ label: '!>>', does: 'no descendants of the left', template: '!>> { # }' },
	{ label: '!>', does: 'no children of the left', template: '!> { # }' },
	{ label: '&>>', does: 'both sides: ancestors and descendants', template: '&>> { # }' },
	{ label: '&>', does: 'both sides: parents and children', template: '&> { # }' },
	{ label: '&&', does: 'traces that have both', template: '&& { # }' },
	{ label: '||', does: 'traces that have either', template: '|| { # }' }
];

export const HINTS: readonly Term[] = [
	{ label: 'most_recent', does: 'the newest traces, exactly', template: 'most_recent=true#' },
	{ label: 'exemplars', does: 'how many exemplars', template: 'exemplars=#100' },
	{ label: 'sample', does: 'let the server sample', template: 'sample=true#' }
];
