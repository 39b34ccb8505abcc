# Inserting one row into an audited table, at 1, 8 and 32 clients of one organization: the copies of setup/audited.sql, as
# a login that is bound to an organization and a user. The row is the agent of the seed's own sample statement.
# shellcheck shell=bash disable=SC2154,SC2317

insert_script()
{
	script "insert_$1" <<-END
		INSERT INTO bench.agents_$1 (organization_id, name, description, agent_type, llm_provider, llm_model,
		    system_prompt, tools, auto_approve_threshold, max_execution_time, created_by)
		VALUES (:organization, 'Code Review Assistant',
		    'AI agent that analyzes pull requests, provides feedback, and ensures code quality standards', 'workflow',
		    'gemini', 'gemini-2.5-pro', 'You are an expert software engineer and code reviewer. Your role is to analyze pull requests and provide constructive feedback on code quality, security, performance, and maintainability. Always explain your reasoning and suggest specific improvements.',
		    '[{"name": "analyze_code_diff", "description": "Analyze git diff for code quality issues", "parameters": {"type": "object", "properties": {"diff": {"type": "string", "description": "Git diff content"}, "programming_language": {"type": "string", "description": "Primary programming language"}}}}, {"name": "check_security_vulnerabilities", "description": "Scan code for potential security issues", "parameters": {"type": "object", "properties": {"code": {"type": "string", "description": "Code to analyze"}, "language": {"type": "string", "description": "Programming language"}}}}, {"name": "suggest_improvements", "description": "Generate improvement suggestions", "parameters": {"type": "object", "properties": {"analysis_results": {"type": "object", "description": "Results from code analysis"}}}}]',
		    0.80, 300, :requester);
	END
}

for table in opsflow seed minimal chain; do
	insert_script "$table"
done

arm_opsflow() { rate "$clients" insert_opsflow -U bench_app; }
arm_seed() { rate "$clients" insert_seed -U bench_app; }
arm_minimal() { rate "$clients" insert_minimal -U bench_app; }
arm_chain() { rate "$clients" insert_chain -U bench_app; }

for clients in 1 8 32; do
	fresh_database insert
	measure "insert_$clients" opsflow seed minimal chain
	report "audited insert, $(clients_of "$clients")" "PL/pgSQL trigger, the seed's audit_trail" rows/s \
		"insert_$clients" opsflow seed '>=1'
	report "audited insert, $(clients_of "$clients")" "PL/pgSQL trigger, table with only a key" rows/s \
		"insert_$clients" opsflow minimal -
	report "audited insert, $(clients_of "$clients")" "hand-written single chain" rows/s \
		"insert_$clients" opsflow chain "$([ "$clients" -eq 32 ] && echo '>=5' || echo -)"
done
