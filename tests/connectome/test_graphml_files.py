"""GraphML as networkx, igraph, yEd, yFiles for HTML and Cytoscape write it; weights that are not there."""

import gzip
from functools import partial

import networkx as nx
import pytest

from helpers.common import refused
from helpers.connectome_files import dense
from sparse_mrnn.connectome import from_networkx, read_graphml

weights_of = partial(dense, whole=True)
XMLNS = "http://graphml.graphdrawing.org/xmlns"


def graphml(path, inside, root=f'<graphml xmlns="{XMLNS}">'):
    path.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<!--made-->{root}{inside}</graphml>')
    return path


KEY = '<key id="w" for="edge" attr.name="weight" attr.type="double"/>'
EDGE = '<edge {}source="{}" target="{}"><data key="w">{}</data></edge>'


def abc(*edges, default="directed", keys=KEY):
    nodes = "".join(f'<node id="{name}"/>' for name in "abc")
    return f'{keys}<graph edgedefault="{default}">{nodes}{"".join(edges)}</graph>'


def test_parallel_edges_of_equal_ids_are_summed(tmp_path):
    edges = [EDGE.format('id="0" ', *edge) for edge in (("a", "b", 3), ("a", "b", 4), ("b", "c", 1))]
    graph, report = read_graphml(graphml(tmp_path / "g.graphml", abc(*edges)), scale="none")
    assert weights_of(graph) == {("b", "a"): 7, ("c", "b"): 1}
    assert (report.edges, report.merged) == (3, 2)


@pytest.mark.parametrize("weights", [(1, 0.5), (0.5, 2, 1), (-1, 2.5)])
def test_networkx_declares_whole_and_other_weights_apart(tmp_path, weights):
    ends = [(720575940000000001, 720575940000000002), (720575940000000002, 720575940000000003), (5, 6)]
    for g in (nx.DiGraph(), nx.MultiDiGraph()):
        for (source, target), weight in zip(ends, weights, strict=False):
            g.add_edge(source, target, weight=weight)
        nx.write_graphml(g, tmp_path / "g.graphml")
        graph, report = read_graphml(tmp_path / "g.graphml")
        expected = {(str(t), str(s)): w for (s, t), w in zip(ends, weights, strict=False)}
        assert weights_of(graph) == expected == weights_of(from_networkx(g)[0])
        assert "weights are real numbers" in str(report)
    with refused("is not a whole number|is negative"):
        read_graphml(tmp_path / "g.graphml", counts=True)


def test_one_edge_of_two_weights(tmp_path):
    keys = KEY + '<key id="v" for="edge" attr.name="weight" attr.type="long"/>'
    edge = '<edge source="a" target="b"><data key="w">2.5</data><data key="v">2</data></edge>'
    with refused("attribute 'weight' is there twice"):
        read_graphml(graphml(tmp_path / "g.graphml", abc(edge, keys=keys)))


def test_compressed(tmp_path):
    text = graphml(tmp_path / "g.graphml", abc(EDGE.format("", "a", "b", 2))).read_bytes()
    (tmp_path / "net.graphml.gz").write_bytes(gzip.compress(text))
    graph, _ = read_graphml(tmp_path / "net.graphml.gz", scale="none")
    assert weights_of(graph) == {("b", "a"): 2}
    assert graph.name == "net"
    (tmp_path / "cut.graphml.gz").write_bytes(gzip.compress(text)[:-20])
    with refused("cut.graphml.gz"):
        read_graphml(tmp_path / "cut.graphml.gz")


def test_edges_that_say_their_direction(tmp_path):
    edges = EDGE.format('directed="false" ', "a", "b", 2), EDGE.format("", "b", "c", 3)
    graph, report = read_graphml(graphml(tmp_path / "g.graphml", abc(*edges)), scale="none")
    assert weights_of(graph) == {("b", "a"): 2, ("a", "b"): 2, ("c", "b"): 3}
    assert "some edges are undirected: 1 edges" in str(report)
    edges = EDGE.format('directed="true" ', "a", "b", 2), EDGE.format("", "b", "c", 3)
    graph, _ = read_graphml(graphml(tmp_path / "g.graphml", abc(*edges, default="undirected")), scale="none")
    assert weights_of(graph) == {("b", "a"): 2, ("c", "b"): 3, ("b", "c"): 3}
    for wrong, message in ((abc(default="both"), "edgedefault is 'both'"), (abc(), "no is 'maybe'")):
        wrong = wrong.replace("</graph>", EDGE.format('directed="maybe" ', "a", "b", 2) + "</graph>")
        with refused(message.replace("no is", "directed is")):
            read_graphml(graphml(tmp_path / "g.graphml", wrong))


# ---------------------------------------------------------------- igraph

IGRAPH = """
  <key id="v_name" for="node" attr.name="name" attr.type="string"/>
  <key id="v_size" for="node" attr.name="size" attr.type="double"/>
  <key id="v_hub" for="node" attr.name="hub" attr.type="boolean"/>
  <key id="e_weight" for="edge" attr.name="weight" attr.type="double"/>
  <graph id="G" edgedefault="directed">
    <node id="n0"><data key="v_name">AVAL</data><data key="v_size">NaN</data><data key="v_hub">true</data></node>
    <node id="n1"><data key="v_name">AVBR</data><data key="v_size">2</data><data key="v_hub">false</data></node>
    <edge source="n0" target="n1"><data key="e_weight">3</data></edge>
    <edge source="n1" target="n0"><data key="e_weight">%s</data></edge>
  </graph>
"""


def test_igraph_has_names_in_an_attribute(tmp_path):
    path = graphml(tmp_path / "g.graphml", IGRAPH % 1.5)
    graph, report = read_graphml(path)
    assert weights_of(graph) == {("n1", "n0"): 3, ("n0", "n1"): 1.5}
    assert "neuron='name' takes that attribute" in str(report)
    graph, report = read_graphml(path, neuron="name", regions="size")
    assert weights_of(graph) == {("AVBR", "AVAL"): 3, ("AVAL", "AVBR"): 1.5}
    assert {r.name: r.unit_ids for r in graph.regions()} == {"2": ("AVBR",), "unassigned": ("AVAL",)}
    assert "takes that attribute" not in str(report)
    with refused("column 'nam'.*Did you mean 'name'"):
        read_graphml(path, neuron="nam")
    with refused("node 'n0' has no 'size'"):
        read_graphml(path, neuron="size")
    with refused("edge 'n1' -> 'n0' has no 'weight', but others do"):
        read_graphml(graphml(path, IGRAPH % "NaN"))


def test_names_that_are_there_twice(tmp_path):
    g = nx.DiGraph([(1, 2), (2, 3)])
    nx.set_node_attributes(g, {1: "AVA", 2: "AVA", 3: "AVB"}, "name")
    with refused("two nodes are called 'AVA'"):
        from_networkx(g, neuron="name")
    assert "takes that attribute" not in str(from_networkx(g)[1])


# ---------------------------------------------------------------- yEd and yFiles

YED = f"""<graphml xmlns="{XMLNS}" xmlns:y="http://www.yworks.com/xml/graphml">"""
YED_KEYS = """
  <key attr.name="Description" attr.type="string" for="graph" id="d0"/>
  <key for="port" id="d1" yfiles.type="portgraphics"/>
  <key for="port" id="d2" yfiles.type="portgeometry"/>
  <key attr.name="url" attr.type="string" for="node" id="d4"/>
  <key for="node" id="d6" yfiles.type="nodegraphics"/>
  <key for="graphml" id="d7" yfiles.type="resources"/>
  <key attr.name="url" attr.type="string" for="edge" id="d8"/>
  <key attr.name="weight" attr.type="double" for="edge" id="d9"/>
  <key for="edge" id="d10" yfiles.type="edgegraphics"/>
"""


def yed_node(name, label, inside=""):
    label = f'<y:NodeLabel fontSize="12">{label}<y:LabelModel><y:Smart distance="4"/></y:LabelModel></y:NodeLabel>'
    shape = f'<y:ShapeNode><y:Geometry x="1"/>{label}<y:NodeLabel>second</y:NodeLabel></y:ShapeNode>'
    return f'<node id="{name}"><data key="d4"/><data key="d6">{shape}</data>{inside}</node>'


def yed_edge(k, source, target, label):
    drawn = f'<y:PolyLineEdge><y:EdgeLabel>{label}</y:EdgeLabel></y:PolyLineEdge>'
    return (
        f'<edge id="e{k}" source="{source}" target="{target}"><data key="d9">{label}</data>'
        f'<data key="d8"/><data key="d10">{drawn}</data></edge>'
    )


def test_yed(tmp_path):
    nodes = yed_node("n0", "AVA") + yed_node("n1", "AVB")
    edges = yed_edge(0, "n0", "n1", 3) + yed_edge(1, "n1", "n0", 2)
    inside = f'{YED_KEYS}<graph edgedefault="directed" id="G"><data key="d0"/>{nodes}{edges}</graph>'
    path = graphml(tmp_path / "g.graphml", inside + '<data key="d7"><y:Resources/></data>', YED)
    for weight in ("weight", "label"):
        graph, _ = read_graphml(path, scale="none", weight=weight)
        assert weights_of(graph) == {("n1", "n0"): 3, ("n0", "n1"): 2}
    graph, _ = read_graphml(path, scale="none", neuron="label")
    assert weights_of(graph) == {("AVB", "AVA"): 3, ("AVA", "AVB"): 2}


def yed_groups(*edges):
    def within(name, *nodes):
        return f'<graph edgedefault="directed" id="{name}:">{"".join(nodes)}</graph>'

    left = within("n0", yed_node("n0::n0", "AVA"), yed_node("n0::n1", "AVB"))
    right = within("n1", yed_node("n1::n0", "PVC"))
    nodes = yed_node("n0", "left", left) + yed_node("n1", "right", right) + yed_node("n2", "RIM")
    return f'{YED_KEYS}<graph edgedefault="directed" id="G">{nodes}{"".join(edges)}</graph>'


def test_groups_of_yed_may_be_regions(tmp_path):
    edges = yed_edge(0, "n0::n0", "n1::n0", 3), yed_edge(1, "n2", "n0::n1", 2)
    path = graphml(tmp_path / "g.graphml", yed_groups(*edges), YED)
    graph, report = read_graphml(path, neuron="label", regions="group", scale="none")
    regions = {r.name: r.unit_ids for r in graph.regions()}
    assert regions == {"left": ("AVA", "AVB"), "right": ("PVC",), "unassigned": ("RIM",)}
    assert weights_of(graph) == {("PVC", "AVA"): 3, ("AVB", "RIM"): 2}
    assert "2 nodes with a graph of their own are groups" in str(report)
    with refused("an edge ends at 'n1', a group of nodes"):
        read_graphml(graphml(path, yed_groups(yed_edge(0, "n0::n0", "n1", 3)), YED))
    doubled = yed_groups().replace("</node>", '<graph edgedefault="directed"/></node>', 1)
    nested = graphml(path, doubled.replace('<node id="n2">', '<node id="n0">'), YED)
    with refused("the node 'n0' is there twice"):
        read_graphml(nested)


def test_yfiles_for_html(tmp_path):
    root = (
        f'<graphml xmlns="{XMLNS}" xmlns:y="http://www.yworks.com/xml/yfiles-common/3.0" '
        'xmlns:x="http://www.yworks.com/xml/yfiles-common/markup/3.0">'
    )
    keys = """
      <key id="d0" for="node" attr.type="boolean" attr.name="Expanded"><default>true</default></key>
      <key id="d1" for="node" attr.name="NodeLabels"/>
      <key id="d3" for="all" attr.name="UserTags"/>
      <key id="d10" for="port" attr.name="Location"><default><x:Static Member="y:Anchored"/></default></key>
      <key id="d11" for="port" attr.name="PortLabels"/>
      <key id="d13" attr.name="SharedData"/>
      <data key="d13"><y:SharedData><y:node id="n0"/></y:SharedData></data>
    """
    label = "<x:List><y:Label><y:Label.Text><![CDATA[{}]]></y:Label.Text></y:Label></x:List>"
    port = f'<port name="p0"><data key="d11">{label.format("port")}</data></port>'
    nodes = "".join(
        f'<node id="n{k}">{port}<data key="d1">{label.format(name)}</data></node>' for k, name in enumerate("AB")
    )
    edge = '<edge id="e0" source="n0" target="n1" sourceport="p0" targetport="p0"/>'
    path = graphml(tmp_path / "g.graphml", f'{keys}<graph edgedefault="directed">{nodes}{edge}</graph>', root)
    graph, report = read_graphml(path, neuron="label", scale="none", regions="Expanded")
    assert weights_of(graph) == {("B", "A"): 1}
    assert list(graph) == ["true"]
    assert "every row is one synapse" in str(report)


# ---------------------------------------------------------------- Cytoscape

CYTOSCAPE = """
  <key attr.name="SUID" attr.type="long" for="node" id="SUID" xmlns=""/>
  <key attr.name="shared name" attr.type="string" for="node" id="shared name" xmlns=""/>
  <key attr.name="name" attr.type="string" for="node" id="name" xmlns=""/>
  <key attr.name="SUID" attr.type="long" for="edge" id="SUID" xmlns=""/>
  <key attr.name="name" attr.type="string" for="edge" id="name" xmlns=""/>
  <key attr.name="weight" attr.type="integer" for="edge" id="weight" xmlns=""/>
  <key attr.name="name" attr.type="string" for="graph" id="name" xmlns=""/>
  <graph edgedefault="directed" id="net" xmlns="">
    <node id="62"><data key="SUID">62</data><data key="shared name">AVA</data><data key="name">AVA</data></node>
    <node id="64"><data key="SUID">64</data><data key="shared name">AVB</data><data key="name">AVB</data></node>
    <edge source="62" target="64"><data key="SUID">70</data><data key="name">AVA (x) AVB</data><data key="weight">4</data></edge>
  </graph>
"""


def test_cytoscape_gives_keys_of_nodes_and_edges_one_id(tmp_path):
    path = graphml(tmp_path / "g.graphml", CYTOSCAPE)
    graph, _ = read_graphml(path, scale="none", neuron="shared name")
    assert weights_of(graph) == {("AVB", "AVA"): 4}
    assert weights_of(read_graphml(path, scale="none")[0]) == {("64", "62"): 4}


# ---------------------------------------------------------------- weights that are not there


def test_a_misspelt_weight_is_refused(tmp_path):
    g = nx.DiGraph()
    g.add_edge("a", "b", weight=3, size=2)
    nx.write_graphml(g, tmp_path / "g.graphml")
    for read in (lambda **k: from_networkx(g, **k), lambda **k: read_graphml(tmp_path / "g.graphml", **k)):
        with refused("column 'wieght' .weight=. is missing. Did you mean 'weight'"):
            read(weight="wieght")
        assert weights_of(read(weight="size", scale="none")[0]) == {("b", "a"): 2}
        assert weights_of(read(weight=None, scale="none")[0]) == {("b", "a"): 1}


def test_weights_of_other_common_names_are_recognised():
    g = nx.DiGraph()
    g.add_edge("a", "b", Syn_Count=3, size=2)
    graph, report = from_networkx(g, scale="none")
    assert weights_of(graph) == {("b", "a"): 3}
    assert "the weight of an edge is its 'Syn_Count'" in str(report)
    g = nx.DiGraph()
    g.add_edge("a", "b", size=2)
    graph, report = from_networkx(g, scale="none")
    assert weights_of(graph) == {("b", "a"): 1}
    assert "every row is one synapse" in str(report)


@pytest.mark.parametrize("value", ["many", "1_0", None])
def test_a_weight_that_is_not_a_number(value):
    g = nx.DiGraph([("a", "b", {"weight": 1}), ("b", "c", {"weight": value})])
    with refused("edge 'b' -> 'c'"):
        from_networkx(g)
