# CREATE EXTENSION of the whole, in an empty database that has pgcrypto: how long, against the limit of three seconds, and
# what there is afterwards.
# shellcheck shell=bash disable=SC2154,SC2317

arm_extension()
{
	database=bench_install
	drop_database "$database"
	createdb "$database"
	sql -c 'CREATE EXTENSION pgcrypto'
	milliseconds 'CREATE EXTENSION opsflow' | awk '{ print $1 / 1000 }'
}

arm_limit() { echo 3; }

database=bench_install
measure install extension limit
say "  $(value "
	SELECT format('%s tables (%s of them partitioned, %s partitions), %s views, %s indexes, %s policies, %s triggers, %s functions',
			count(*) FILTER (WHERE relkind IN ('r', 'p') AND NOT relispartition),
			count(*) FILTER (WHERE relkind = 'p' AND NOT relispartition),
			count(*) FILTER (WHERE relkind IN ('r', 'p') AND relispartition), count(*) FILTER (WHERE relkind = 'v'),
			(SELECT count(*) FROM pg_index WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace)),
			(SELECT count(*) FROM pg_policies WHERE schemaname = 'opsflow'),
			(SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal
				AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace)),
			(SELECT count(*) FROM pg_proc WHERE pronamespace = 'opsflow'::regnamespace))
	FROM pg_class WHERE relnamespace = 'opsflow'::regnamespace")"
report "CREATE EXTENSION opsflow" "the limit" s install extension limit '<=1'
