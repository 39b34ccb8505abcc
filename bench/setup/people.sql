-- One organization with a person who asks and one who decides, in both schemas, and the logins.
--
-- bench_app is bound to the organization and the requester, as a DBA binds a login; bench_service sets a context in each
-- transaction; bench_reader reads.

INSERT INTO opsflow.organizations (id, name, slug) VALUES (:'organization', 'Bench', 'bench');
INSERT INTO opsflow.users (id, organization_id, email, full_name, role)
VALUES
    (:'requester', :'organization', 'requester@example.com', 'Rita Requester', 'member'),
    (:'approver', :'organization', 'approver@example.com', 'Ada Approver', 'admin');

INSERT INTO seed.organizations (id, name, slug) VALUES (:'organization', 'Bench', 'bench');
INSERT INTO seed.users (id, organization_id, email, first_name, last_name, password_hash, role)
VALUES
    (:'requester', :'organization', 'requester@example.com', 'Rita', 'Requester', '-', 'member'),
    (:'approver', :'organization', 'approver@example.com', 'Ada', 'Approver', '-', 'admin');

CREATE ROLE bench_app LOGIN IN ROLE opsflow_service;
ALTER ROLE bench_app SET opsflow.organization_id = :'organization';
ALTER ROLE bench_app SET opsflow.user_id = :'requester';
ALTER ROLE bench_app SET app.current_user_id = :'requester';
CREATE ROLE bench_service LOGIN IN ROLE opsflow_service;
CREATE ROLE bench_reader LOGIN IN ROLE opsflow_member;
GRANT USAGE ON SCHEMA seed TO bench_app, bench_service;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA seed TO bench_app, bench_service;
