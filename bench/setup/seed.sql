-- The baseline: the tables of the schema that opsflow replaces, as its users have them (OpsFlow Guardian 2.0, the seven
-- tables that the measurements need, with their constraints and indexes), and the audit triggers a user would write.

CREATE SCHEMA seed;
SET search_path = seed, public;

CREATE TABLE organizations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name VARCHAR(255) NOT NULL,
    slug VARCHAR(100) UNIQUE NOT NULL,
    industry VARCHAR(100),
    size_category VARCHAR(50) CHECK (size_category IN ('startup', 'small', 'medium', 'large', 'enterprise')),
    headquarters_location VARCHAR(255),
    timezone VARCHAR(50) DEFAULT 'UTC',
    ai_configuration JSONB NOT NULL DEFAULT '{}',
    automation_preferences JSONB NOT NULL DEFAULT '{}',
    risk_tolerance VARCHAR(20) DEFAULT 'medium' CHECK (risk_tolerance IN ('low', 'medium', 'high')),
    approval_thresholds JSONB NOT NULL DEFAULT '{}',
    business_objectives TEXT[],
    key_processes TEXT[],
    compliance_requirements TEXT[],
    integration_priorities TEXT[],
    plan_type VARCHAR(50) DEFAULT 'starter' CHECK (plan_type IN ('starter', 'professional', 'enterprise', 'custom')),
    monthly_ai_calls_limit INTEGER DEFAULT 1000,
    monthly_ai_calls_used INTEGER DEFAULT 0,
    reset_date DATE DEFAULT CURRENT_DATE + INTERVAL '1 month',
    status VARCHAR(20) DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'cancelled')),
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    created_by UUID,
    CONSTRAINT valid_ai_config CHECK (jsonb_typeof(ai_configuration) = 'object'),
    CONSTRAINT valid_automation_prefs CHECK (jsonb_typeof(automation_preferences) = 'object'),
    CONSTRAINT valid_approval_thresholds CHECK (jsonb_typeof(approval_thresholds) = 'object')
);

CREATE TABLE users (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    email VARCHAR(255) UNIQUE NOT NULL,
    first_name VARCHAR(100) NOT NULL,
    last_name VARCHAR(100) NOT NULL,
    job_title VARCHAR(255),
    department VARCHAR(100),
    password_hash VARCHAR(255) NOT NULL,
    email_verified BOOLEAN DEFAULT FALSE,
    email_verified_at TIMESTAMP WITH TIME ZONE,
    last_login TIMESTAMP WITH TIME ZONE,
    role VARCHAR(50) DEFAULT 'member' CHECK (role IN ('owner', 'admin', 'manager', 'member', 'viewer')),
    permissions TEXT[] DEFAULT ARRAY[]::TEXT[],
    notification_preferences JSONB DEFAULT '{"email": true, "in_app": true, "approvals": true}',
    ai_interaction_style VARCHAR(50) DEFAULT 'balanced' CHECK (ai_interaction_style IN ('conservative', 'balanced', 'aggressive')),
    status VARCHAR(20) DEFAULT 'active' CHECK (status IN ('active', 'inactive', 'suspended')),
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    UNIQUE(organization_id, email)
);

CREATE TABLE agents (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    description TEXT,
    agent_type VARCHAR(50) NOT NULL CHECK (agent_type IN ('workflow', 'data', 'communication', 'integration', 'analytics', 'custom')),
    llm_provider VARCHAR(50) DEFAULT 'gemini' CHECK (llm_provider IN ('gemini', 'openai', 'anthropic', 'mistral', 'ollama')),
    llm_model VARCHAR(100) DEFAULT 'gemini-2.5-flash',
    system_prompt TEXT NOT NULL,
    tools JSONB DEFAULT '[]',
    auto_approve_threshold DECIMAL(3,2) DEFAULT 0.8,
    max_execution_time INTEGER DEFAULT 300,
    retry_count INTEGER DEFAULT 3,
    execution_count INTEGER DEFAULT 0,
    success_rate DECIMAL(5,2) DEFAULT 0,
    avg_execution_time DECIMAL(10,2) DEFAULT 0,
    last_executed TIMESTAMP WITH TIME ZONE,
    status VARCHAR(20) DEFAULT 'draft' CHECK (status IN ('draft', 'active', 'paused', 'archived')),
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    created_by UUID NOT NULL REFERENCES users(id),
    CONSTRAINT valid_tools_array CHECK (jsonb_typeof(tools) = 'array')
);

CREATE TABLE workflows (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    description TEXT,
    category VARCHAR(50) DEFAULT 'general',
    trigger_conditions JSONB NOT NULL DEFAULT '{}',
    steps JSONB NOT NULL DEFAULT '[]',
    approval_rules JSONB NOT NULL DEFAULT '{}',
    primary_agent_id UUID REFERENCES agents(id),
    requires_human_approval BOOLEAN DEFAULT TRUE,
    risk_level VARCHAR(20) DEFAULT 'medium' CHECK (risk_level IN ('low', 'medium', 'high', 'critical')),
    execution_count INTEGER DEFAULT 0,
    success_count INTEGER DEFAULT 0,
    avg_completion_time INTERVAL DEFAULT '0 minutes',
    status VARCHAR(20) DEFAULT 'draft' CHECK (status IN ('draft', 'active', 'paused', 'archived')),
    version INTEGER DEFAULT 1,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    created_by UUID NOT NULL REFERENCES users(id),
    CONSTRAINT valid_trigger_conditions CHECK (jsonb_typeof(trigger_conditions) = 'object'),
    CONSTRAINT valid_steps_array CHECK (jsonb_typeof(steps) = 'array'),
    CONSTRAINT valid_approval_rules CHECK (jsonb_typeof(approval_rules) = 'object')
);

CREATE TABLE workflow_executions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    workflow_id UUID NOT NULL REFERENCES workflows(id) ON DELETE CASCADE,
    agent_id UUID REFERENCES agents(id),
    trigger_event JSONB NOT NULL DEFAULT '{}',
    execution_plan JSONB NOT NULL DEFAULT '[]',
    context_data JSONB DEFAULT '{}',
    current_step INTEGER DEFAULT 0,
    total_steps INTEGER NOT NULL,
    progress_percentage DECIMAL(5,2) DEFAULT 0,
    ai_reasoning TEXT,
    confidence_score DECIMAL(3,2),
    risk_assessment JSONB DEFAULT '{}',
    started_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    completed_at TIMESTAMP WITH TIME ZONE,
    estimated_completion TIMESTAMP WITH TIME ZONE,
    status VARCHAR(20) DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'running', 'completed', 'failed', 'cancelled', 'requires_approval')),
    result JSONB DEFAULT '{}',
    error_details TEXT,
    requires_approval BOOLEAN DEFAULT TRUE,
    approved_by UUID REFERENCES users(id),
    approved_at TIMESTAMP WITH TIME ZONE,
    approval_notes TEXT,
    CONSTRAINT valid_trigger_event CHECK (jsonb_typeof(trigger_event) = 'object'),
    CONSTRAINT valid_execution_plan CHECK (jsonb_typeof(execution_plan) = 'array'),
    CONSTRAINT valid_risk_assessment CHECK (jsonb_typeof(risk_assessment) = 'object'),
    CONSTRAINT valid_result CHECK (jsonb_typeof(result) = 'object')
);

CREATE TABLE approval_requests (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    execution_id UUID NOT NULL REFERENCES workflow_executions(id) ON DELETE CASCADE,
    title VARCHAR(255) NOT NULL,
    description TEXT NOT NULL,
    requested_action JSONB NOT NULL DEFAULT '{}',
    ai_recommendation VARCHAR(20) CHECK (ai_recommendation IN ('approve', 'reject', 'review')),
    ai_confidence DECIMAL(3,2),
    ai_reasoning TEXT,
    risk_factors TEXT[],
    impact_analysis JSONB DEFAULT '{}',
    approver_id UUID REFERENCES users(id),
    priority VARCHAR(20) DEFAULT 'medium' CHECK (priority IN ('low', 'medium', 'high', 'urgent')),
    due_date TIMESTAMP WITH TIME ZONE,
    status VARCHAR(20) DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'expired')),
    decision_reason TEXT,
    decided_at TIMESTAMP WITH TIME ZONE,
    decided_by UUID REFERENCES users(id),
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    CONSTRAINT valid_requested_action CHECK (jsonb_typeof(requested_action) = 'object'),
    CONSTRAINT valid_impact_analysis CHECK (jsonb_typeof(impact_analysis) = 'object')
);

CREATE TABLE audit_trail (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations(id) ON DELETE CASCADE,
    event_type VARCHAR(50) NOT NULL,
    entity_type VARCHAR(50) NOT NULL,
    entity_id UUID NOT NULL,
    actor_type VARCHAR(20) NOT NULL CHECK (actor_type IN ('user', 'agent', 'system')),
    actor_id UUID,
    actor_name VARCHAR(255),
    action VARCHAR(50) NOT NULL,
    changes JSONB DEFAULT '{}',
    previous_values JSONB DEFAULT '{}',
    new_values JSONB DEFAULT '{}',
    execution_context JSONB DEFAULT '{}',
    metadata JSONB DEFAULT '{}',
    ai_model VARCHAR(100),
    ai_reasoning TEXT,
    confidence_score DECIMAL(3,2),
    tokens_used INTEGER,
    timestamp TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    session_id VARCHAR(255),
    ip_address INET,
    user_agent TEXT,
    correlation_id UUID,
    severity VARCHAR(20) DEFAULT 'info' CHECK (severity IN ('debug', 'info', 'warning', 'error', 'critical')),
    CONSTRAINT valid_changes CHECK (jsonb_typeof(changes) = 'object'),
    CONSTRAINT valid_previous_values CHECK (jsonb_typeof(previous_values) = 'object'),
    CONSTRAINT valid_new_values CHECK (jsonb_typeof(new_values) = 'object'),
    CONSTRAINT valid_execution_context CHECK (jsonb_typeof(execution_context) = 'object'),
    CONSTRAINT valid_metadata CHECK (jsonb_typeof(metadata) = 'object')
);

CREATE INDEX idx_organizations_slug ON organizations(slug);
CREATE INDEX idx_organizations_status ON organizations(status);
CREATE INDEX idx_users_organization_id ON users(organization_id);
CREATE INDEX idx_users_email ON users(email);
CREATE INDEX idx_users_status ON users(status);
CREATE INDEX idx_agents_organization_id ON agents(organization_id);
CREATE INDEX idx_agents_status ON agents(status);
CREATE INDEX idx_agents_type ON agents(agent_type);
CREATE INDEX idx_workflows_organization_id ON workflows(organization_id);
CREATE INDEX idx_workflows_status ON workflows(status);
CREATE INDEX idx_workflows_category ON workflows(category);
CREATE INDEX idx_executions_organization_id ON workflow_executions(organization_id);
CREATE INDEX idx_executions_workflow_id ON workflow_executions(workflow_id);
CREATE INDEX idx_executions_status ON workflow_executions(status);
CREATE INDEX idx_executions_started_at ON workflow_executions(started_at);
CREATE INDEX idx_approval_requests_organization_id ON approval_requests(organization_id);
CREATE INDEX idx_approval_requests_status ON approval_requests(status);
CREATE INDEX idx_approval_requests_approver_id ON approval_requests(approver_id);
CREATE INDEX idx_approval_requests_created_at ON approval_requests(created_at);
CREATE INDEX idx_audit_trail_organization_id ON audit_trail(organization_id);
CREATE INDEX idx_audit_trail_entity ON audit_trail(entity_type, entity_id);
CREATE INDEX idx_audit_trail_actor ON audit_trail(actor_type, actor_id);
CREATE INDEX idx_audit_trail_timestamp ON audit_trail(timestamp);
CREATE INDEX idx_audit_trail_event_type ON audit_trail(event_type);
CREATE INDEX idx_audit_trail_correlation_id ON audit_trail(correlation_id);
