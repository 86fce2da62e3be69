from lxml import etree


def parse():
    return etree.parse("orders.xml")


def texts(tree):
    return [element.findtext("n") for element in tree.getroot()]


print(len(texts(parse())))
