-- The organizations of setup/rls.sql in 20 holdings, each with 50 subsidiaries and an admin.

SET search_path = bench, public;

CREATE FUNCTION holding(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-7000-a000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE FUNCTION tree(n integer) RETURNS uuid[] LANGUAGE sql IMMUTABLE AS
$$ SELECT bench.holding(n) || ARRAY(SELECT bench.organization(o) FROM generate_series(50 * n - 49, 50 * n) AS o) $$;

INSERT INTO opsflow.organizations (id, name, slug, type)
SELECT holding(n), 'Holding ' || n, 'holding-' || n, 'holding' FROM generate_series(1, 20) AS n;
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
SELECT holding(n), holding(n), 'holding-' || n || '@example.com', 'Admin ' || n, 'admin' FROM generate_series(1, 20) AS n;
UPDATE opsflow.organizations SET parent_organization_id = holding(n)
FROM generate_series(1, 20) AS n WHERE id = ANY (tree(n)) AND id <> holding(n);
VACUUM ANALYZE opsflow.organizations, opsflow.users, opsflow.organization_members;
