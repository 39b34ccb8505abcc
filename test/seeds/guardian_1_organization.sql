-- Insert a new organization with comprehensive AI configuration
INSERT INTO organizations (
    name, 
    slug, 
    industry, 
    size_category, 
    headquarters_location,
    ai_configuration,
    automation_preferences,
    risk_tolerance,
    approval_thresholds,
    business_objectives,
    key_processes,
    compliance_requirements,
    plan_type
) VALUES (
    'TechCorp Inc',
    'techcorp-inc',
    'Software Development',
    'medium',
    'San Francisco, CA',
    '{
        "default_llm_provider": "gemini",
        "default_model": "gemini-2.5-flash",
        "max_tokens_per_request": 8192,
        "temperature": 0.7,
        "enable_function_calling": true,
        "enable_code_execution": false,
        "safety_settings": {
            "harassment": "low",
            "hate_speech": "low",
            "dangerous_content": "medium"
        }
    }',
    '{
        "auto_approve_low_risk": true,
        "require_approval_above_confidence": 0.85,
        "max_execution_time": 600,
        "enable_parallel_execution": true,
        "notification_channels": ["email", "slack"],
        "working_hours_only": false
    }',
    'medium',
    '{
        "financial_impact": {
            "low": 1000,
            "medium": 10000,
            "high": 50000
        },
        "data_access": {
            "public": "auto",
            "internal": "approval",
            "confidential": "manual_review"
        },
        "integration_changes": "always_approve"
    }',
    ARRAY['Improve development velocity', 'Reduce manual processes', 'Enhance code quality', 'Automate deployment pipelines'],
    ARRAY['Code review automation', 'CI/CD pipeline management', 'Issue triaging', 'Documentation generation'],
    ARRAY['SOC2', 'GDPR', 'HIPAA'],
    'professional'
);
