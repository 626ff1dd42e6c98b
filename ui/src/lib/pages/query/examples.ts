/** Queries to begin with, for people who have written none yet. */
export interface Example {
	title: string;
	about: string;
	query: string;
}

export const EXAMPLES: readonly Example[] = [
	{
		title: 'Errors by service',
		about: 'How many spans fail each second, one line per service.',
		query: '{ status = error } | rate() by (resource.service.name)'
	},
	{
		title: 'p50, p95, p99 by name',
		about: 'Latency of the calls that services answer.',
		query: '{ kind = server } | quantile_over_time(duration, .5, .95, .99) by (name)'
	},
	{
		title: 'What failing spans have in common',
		about: 'Every attribute of errors against that of all other spans.',
		query: '{ } | compare({ status = error })'
	},
	{
		title: 'Slow database calls below a server span',
		about: 'Database spans of 50 ms and more under a request.',
		query: '{ kind = server } >> { span.db.system.name != nil && duration > 50ms }'
	},
	{
		title: 'The ten slowest operations',
		about: 'The longest span of each step, the worst ten names.',
		query: '{ } | max_over_time(duration) by (name) | topk(10)'
	},
	{
		title: 'Distribution of latencies',
		about: 'A heatmap of durations over time.',
		query: '{ kind = server } | histogram_over_time(duration)'
	},
	{
		title: 'Repeated calls',
		about: 'Traces in which one operation runs more than ten times.',
		query: '{ kind = client } | by(name) | count() > 10'
	},
	{
		title: 'Share of errors',
		about: 'Failed spans in per cent of all, by service.',
		query: '100 * ({ status = error } | rate() by (resource.service.name)) / ({ } | rate() by (resource.service.name))'
	}
];
