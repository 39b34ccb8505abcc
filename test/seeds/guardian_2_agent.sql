-- Create a comprehensive AI agent for workflow automation
INSERT INTO agents (
    organization_id,
    name,
    description,
    agent_type,
    llm_provider,
    llm_model,
    system_prompt,
    tools,
    auto_approve_threshold,
    max_execution_time,
    created_by
) VALUES (
    (SELECT id FROM organizations WHERE slug = 'techcorp-inc'),
    'Code Review Assistant',
    'AI agent that analyzes pull requests, provides feedback, and ensures code quality standards',
    'workflow',
    'gemini',
    'gemini-2.5-pro',
    'You are an expert software engineer and code reviewer. Your role is to analyze pull requests and provide constructive feedback on code quality, security, performance, and maintainability. Always explain your reasoning and suggest specific improvements.',
    '[
        {
            "name": "analyze_code_diff",
            "description": "Analyze git diff for code quality issues",
            "parameters": {
                "type": "object",
                "properties": {
                    "diff": {"type": "string", "description": "Git diff content"},
                    "programming_language": {"type": "string", "description": "Primary programming language"}
                }
            }
        },
        {
            "name": "check_security_vulnerabilities",
            "description": "Scan code for potential security issues",
            "parameters": {
                "type": "object",
                "properties": {
                    "code": {"type": "string", "description": "Code to analyze"},
                    "language": {"type": "string", "description": "Programming language"}
                }
            }
        },
        {
            "name": "suggest_improvements",
            "description": "Generate improvement suggestions",
            "parameters": {
                "type": "object",
                "properties": {
                    "analysis_results": {"type": "object", "description": "Results from code analysis"}
                }
            }
        }
    ]',
    0.80,
    300,
    (SELECT id FROM users WHERE email = 'admin@techcorp.com')
);
