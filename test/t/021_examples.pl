# The examples of README.md and of the pages about approvals, as a newcomer runs them: page by page, each in a psql of its
# own, in one database. Nothing fails but what the README shows to be refused.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::Bin/../..";
my $node = PostgreSQL::Test::Cluster->new('examples');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', 'fsync = off');
$node->start;

# run PAGE: the errors of its examples, one after the other.
sub run
{
	my ($page) = @_;
	my @blocks = slurp_file("$top/$page") =~ /^```sql\n(.*?)^```$/gms;
	my $file = $node->basedir . '/example.sql';

	return 'no example' unless @blocks;
	unlink $file;
	append_to_file($file, join("\n", @blocks));
	my (undef, undef, $errors) = $node->psql('postgres', "\\i $file", on_error_stop => 0);
	return join("\n", $errors =~ /ERROR:  (.*)/g);
}

like(run('README.md'), qr/\Athe requester cannot decide an approval request
approval request \S+ is already approved
permission "approvals.request" is required\z/, 'README.md: three errors, which it announces');
foreach my $page (qw(approvals work_items approval_policies notifications))
{
	is(run("doc/$page.md"), '', "doc/$page.md: no error");
}
is($node->safe_psql('postgres', q{
	SELECT string_agg(DISTINCT status, ' ') FROM opsflow.work_items;
	SELECT status FROM opsflow.approval_requests WHERE title = 'Order gloves';
	SELECT string_agg(DISTINCT status, ' ') FROM opsflow.notifications WHERE channel = 'email'}),
	"completed\napproved\npending sent", 'they do what the pages say');

$node->stop;
done_testing();
